# dash: loops over builtins and small programs, files written and read line by line, command substitution, arithmetic, traps.
trap 'echo trap on exit' 0
n=0
while :; do
  i=0; : > list
  while [ $i -lt 200 ]; do echo "line $i $((i * i % 97))" >> list; i=$((i + 1)); done
  sum=0
  while read -r word number square; do sum=$((sum + number + square)); done < list
  [ "$word$number" = "" ] || { echo "read left $word$number"; exit 1; }
  [ $sum = 29267 ] || { echo "sum is $sum"; exit 1; }
  case $(wc -l < list) in 200) ;; *) echo "lines $(wc -l < list)"; exit 1 ;; esac
  [ "$(sort -k3n list | head -1)" = "line 0 0" ] || { echo "sort $(sort -k3n list | head -1)"; exit 1; }
  if ! expr "$(date +%s)" \> 1000000000 > /dev/null; then echo "date"; exit 1; fi
  n=$((n + 1))
  [ $n = 1 ] && echo ready
  [ -e stop ] && break
done
echo "loops: all alike"
