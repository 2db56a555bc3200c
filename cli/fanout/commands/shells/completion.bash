# Completion of fanout's command lines for bash. In ~/.bashrc:
#
#   eval "$(fanout completion bash)"

_fanout_completion() {
    local lines
    lines=$(_FANOUT_COMPLETE=bash COMP_TYPE="$COMP_TYPE" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
        "${1/#\~/$HOME}" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    COMPREPLY=()
    # Without compopt (bash 3) files are offered wherever there is nothing else.
    if [ "$lines" = ":files" ]; then
        compopt -o default 2>/dev/null
        return
    fi
    compopt +o default 2>/dev/null
    local line
    while IFS= read -r line; do
        [ -n "$line" ] && COMPREPLY+=("$line")
    done <<<"$lines"
}

complete -o default -o nosort -F _fanout_completion fanout 2>/dev/null ||
    complete -o default -F _fanout_completion fanout
