# Completion of fanout's command lines for fish. In ~/.config/fish/config.fish:
#
#   fanout completion fish | source

function __fanout_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines (_FANOUT_COMPLETE=fish $words[1] $words[2..-1] "$current" 2>/dev/null)
    if test "$lines" = ":files"
        __fish_complete_path "$current"
    else
        string join \n -- $lines
    end
end

complete --command fanout --no-files --keep-order --arguments "(__fanout_complete)"
