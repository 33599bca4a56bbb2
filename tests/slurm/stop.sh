#!/bin/bash
# Stop the SLURM that tests/slurm/start.sh started, with its jobs, and take its configuration away. Safe to repeat.
set -uo pipefail

STATE=/run/mettrail-slurm
MARK="Written by mettrail's tests/slurm/start.sh"

if grep -qs "$MARK" /etc/slurm/slurm.conf; then
    timeout 10 scancel --user="$(id -un)" 2> /dev/null
    for _ in $(seq 20); do
        [[ -n $(timeout 5 squeue --noheader 2> /dev/null) ]] || break
        sleep 0.5
    done
    rm -f /etc/slurm/slurm.conf /etc/slurm/gres.conf
fi
# By process id, and only if that process is still what it was.
for entry in slurmd:slurmd.pid slurmctld:slurmctld.pid munged:munge/pid; do
    name=${entry%%:*}
    pid=$(cat "$STATE/${entry#*:}" 2> /dev/null) || continue
    [[ $(cat "/proc/$pid/comm" 2> /dev/null) == "$name" ]] || continue
    kill "$pid"
    for _ in $(seq 40); do
        [[ -e /proc/$pid ]] || break
        sleep 0.25
    done
done
rm -rf "$STATE"
exit 0
