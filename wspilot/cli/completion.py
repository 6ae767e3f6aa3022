"""Shell completion: verbs from the parser, names from the daemon's list."""

BASH = r"""# wspilot completion: eval "$(wspilot completion bash)"
_wspilot() {
    local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "completion config daemon demo deploy destroy doctor events images
            list logs nodes show slots tui types wait" -- "$word"))
        return
    fi
    case $verb in
        show | wait | destroy | events | logs)
            local names
            names=$(wspilot list --json 2>/dev/null |
                sed 's/"name": "/\n/g' | sed -n '2,$s/".*//p' | sort -u)
            COMPREPLY=($(compgen -W "$names" -- "$word")) ;;
        deploy | demo) COMPREPLY=($(compgen -f -X '!*.toml' -- "$word")) ;;
    esac
}
complete -o default -F _wspilot wspilot"""
