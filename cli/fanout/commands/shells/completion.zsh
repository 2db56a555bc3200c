#compdef fanout
# Completion of fanout's command lines for zsh. In ~/.zshrc, after compinit:
#
#   eval "$(fanout completion zsh)"

_fanout() {
    # The word at the cursor may have a quote that is not closed yet.
    local current=${${(Q)words[CURRENT]}#[\'\"]}
    local -a lines
    lines=("${(@f)$(_FANOUT_COMPLETE=zsh ${(Q)~words[1]} "${(@Q)words[2,CURRENT-1]}" "$current" 2>/dev/null)}")
    if [[ $lines[1] == ":files" ]]; then
        _files
    elif [[ -n $lines[1] ]]; then
        _describe -V fanout lines
    else
        return 1
    fi
}

if [[ $funcstack[1] == _fanout ]]; then
    _fanout "$@"
else
    compdef _fanout fanout
fi
