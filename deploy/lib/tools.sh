# shellcheck shell=sh
# Missing tools: named, with the command that installs them; on Debian that command is offered.

# need TOOL PACKAGE: makes sure that TOOL can be run.
need() {
    if command -v "$1" >/dev/null 2>&1; then
        return
    fi
    if [ "$DRY_RUN" = yes ]; then
        say "$1 is missing: apt-get install $2"
        return
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        fail "$1 is missing: install the package of your system that has it (on Debian: $2)"
    fi
    install="apt-get install -y --no-install-recommends $2"
    if [ "$(id -u)" -ne 0 ]; then
        install="sudo $install"
    fi
    if [ "$YES" != yes ]; then
        if [ ! -t 0 ]; then
            fail "$1 is missing: $install"
        fi
        printf '%s is missing. Run "%s"? [y/N] ' "$1" "$install" >&2
        read -r answer
        case $answer in
            y | Y | yes) ;;
            *) fail "$1 is missing: $install" ;;
        esac
    fi
    $install >&2 || fail "could not install $2"
}
