#!/bin/bash
# Start a real SLURM on this one machine, for the tests: no systemd, no cgroups, no accounting, one made-up GPU.
#
#     tests/slurm/start.sh      start it, or do nothing where it runs already
#     tests/slurm/stop.sh       stop it and take its traces away
#
# Needs root and Debian's or Ubuntu's slurm-wlm and munge (apt-get install slurm-wlm munge). Never touches a SLURM that it
# did not set up. Everything but the configuration lives in one folder, with a munge key and socket of its own; the
# configuration is in /etc/slurm, because Snakemake's plugin takes SLURM_CONF out of the jobs' environment.
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
STATE=/run/mettrail-slurm
CONF=/etc/slurm/slurm.conf
MARK="Written by mettrail's tests/slurm/start.sh"

fail() { echo "tests/slurm/start.sh: $*" >&2; exit 1; }

[[ $(id -u) == 0 ]] || fail "needs root"
for tool in slurmctld slurmd sbatch munged; do
    command -v $tool > /dev/null || fail "$tool is missing: apt-get install slurm-wlm munge"
done
[[ ! -e $CONF ]] || grep -q "$MARK" $CONF || fail "$CONF belongs to another SLURM"
runs() { timeout 5 sinfo --noheader --format %T 2> /dev/null | grep -qE '^(idle|mixed|allocated)$'; }
if [[ -e $CONF ]] && runs; then
    echo "SLURM runs already"
    exit 0
fi
bash "$HERE/stop.sh"

# Private to root but for passing through: munged refuses a socket that others could replace.
mkdir -p /etc/slurm $STATE/{ctld,d,munge}
chmod 755 $STATE $STATE/munge

# What `slurmd -C` counts, without sockets, cores and hardware threads: a job of one CPU then takes one CPU.
hardware=$(slurmd -C)
cpus=$(grep -oP '\bCPUs=\K\d+' <<< "$hardware")
memory=$(grep -oP '\bRealMemory=\K\d+' <<< "$hardware")
node=$(grep -oP '\bNodeName=\K\S+' <<< "$hardware")
sed -e "s|@MARK@|$MARK|; s|@STATE@|$STATE|; s|@NODE@|$node|; s|@CPUS@|$cpus|; s|@MEMORY@|$memory|" \
    "$HERE/slurm.conf.in" > $CONF
echo "Name=gpu File=/dev/null" > /etc/slurm/gres.conf

(umask 077 && head -c 1024 /dev/urandom > $STATE/munge/key)
munged --key-file=$STATE/munge/key --socket=$STATE/munge/socket --pid-file=$STATE/munge/pid \
    --log-file=$STATE/munge/log --seed-file=$STATE/munge/seed
slurmctld
slurmd

for _ in $(seq 60); do
    if runs; then
        echo "SLURM: node $node, $cpus CPUs, $memory MB, 1 made-up GPU"
        exit 0
    fi
    sleep 0.5
done
tail -n 20 $STATE/*.log >&2 || true
fail "the node does not come up"
