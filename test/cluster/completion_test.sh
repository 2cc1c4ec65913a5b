#!/bin/bash
# bash completion: what is offered for some beginnings of lines, with a tess that answers from here. Arguments: the completion file.
set -u
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/tess" <<'TESS'
#!/bin/sh
case "$1" in
  nodes) printf 'n1 alive\nn2 alive\n' ;;
  ps) printf 'JOB PID COMMAND\n5e21a0c4 4711 sleep\n5e21a0c4 4712 sleep\n' ;;
  batch) printf 'JOB NAME\n12 sweep\n' ;;
  set) printf 'balance = on\nresidency = 2\n' ;;
esac
TESS
chmod +x "$folder/tess"
PATH="$folder:$PATH"
. "$1"
failures=0

# expect "LINE" WORD…: the last word of the line is being completed.
expect() {
  local line=$1 want
  shift
  read -r -a COMP_WORDS <<< "$line"
  [[ $line == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _tess
  want=$*
  if [ "${COMPREPLY[*]}" != "$want" ]; then
    echo "'$line': offered '${COMPREPLY[*]}', not '$want'"
    failures=$((failures + 1))
  fi
}

expect "tess mi" migrate
expect "tess k" kill
expect "tess manage " user cgroup command all list
expect "tess manage all --r" --remove
expect "tess migrate " 4711 4712
expect "tess migrate 4711 " home n1 n2
expect "tess migrate --all-from " n1 n2
expect "tess migrate --job " 5e21a0c4
expect "tess kill -s K" KILL
expect "tess top --sort m" mem moves
expect "tess top -s w" where
expect "tess set r" residency
expect "tess set balance o" on off
expect "tess node d" drain
expect "tess node drain n2" n2
expect "tess run --on " n1 n2
expect "tess run --st" --stay
expect "tess best --f" --first
expect "tess ba" batch
expect "tess batch re" release
expect "tess batch cancel " 12
expect "tess batch submit --after" --after --after-any
expect "tess token l" list
expect "tess node ap" approve
[ "$failures" -eq 0 ] || exit 1
echo "all as expected"
