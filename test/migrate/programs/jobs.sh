# bash with job control and traps: background jobs, wait, fg, stop and continue, EXIT/TERM/USR1/CHLD traps, pipelines with statuses,
# process substitution, here documents, subshells, coprocesses. Rounds until `stop` appears; each must go the same way.
set -m
usr1=0
trap 'usr1=$((usr1 + 1))' USR1

round() {
  local out=
  usr1=0
  sleep 30 & local sleeper=$!
  kill -STOP $sleeper
  while jobs -l %% > jobs.out; ! grep -q Stopped jobs.out; do :; done
  out+="stopped "
  kill -CONT $sleeper
  while jobs -l %% > jobs.out; ! grep -q Running jobs.out; do :; done
  kill -KILL $sleeper
  wait -f $sleeper
  local status=$?
  out+="wait=$status "
  (exit 37) & wait $!; out+="exit=$? "
  kill -USR1 $$; kill -USR1 $$
  out+="usr1=$((usr1 > 0)) "
  (trap 'exit 9' TERM; kill -TERM $BASHPID; exit 1); out+="trap=$? "
  printf 'a\nb\nc\n' | grep -v b | { read x; read y; out+="$x$y "; echo "$x$y" > pipe.out; }
  out+="$(cat pipe.out) "
  false | true | (exit 5); out+="pipe=${PIPESTATUS[*]} "
  out+="$(cat <(echo first) <(echo second) | tr '\n' ,) "
  out+="$(tr a-z A-Z <<END
here document
END
) "
  local sum=0 started=()
  for i in 1 2 3; do (exit $i) & started+=($!); done
  for job in "${started[@]}"; do wait -f $job; sum=$((sum + $?)); done
  out+="sum=$sum "
  rm -f pipe.out jobs.out
  result=$out
}

round 2> /dev/null
first=$result
echo "$first"
echo ready
while [ ! -e stop ]; do
  round 2> /dev/null
  if [ "$result" != "$first" ]; then
    echo "round differs: $result"
    exit 1
  fi
done
trap 'echo "exit trap, status $?"' EXIT  # not before: bash lets process substitutions run it now and then
echo "jobs: all rounds alike"
exit 3
