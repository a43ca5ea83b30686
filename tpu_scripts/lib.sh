# shellcheck shell=bash
# What the scripts share: settings, messages, roles, states of resources, ssh to all workers.
# shellcheck disable=SC2034  # set here, read in the scripts
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck disable=SC1090
if [ -n "${SETTINGS:-}" ]; then source "$SETTINGS"; fi
# shellcheck source=settings.sh
source "$HERE/settings.sh"
DRY=no ROLE="" REST=()
exec 3>&1 # where --dry-run prints, from inside $(…) too

say() { printf '%s\n' "$*" >&2; }
die() { # what, [remedy]
  say "$(basename "$0"): $1"
  if [ -n "${2:-}" ]; then say "  $2"; fi
  exit 1
}

parse() { # the script's arguments; sets DRY, ROLE (the default is $1) and REST
  ROLE=$1
  shift
  local argument
  for argument; do
    case $argument in
      --help | -h) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
      --dry-run) DRY=yes ;;
      train | teacher | all) ROLE=$argument ;;
      *) REST+=("$argument") ;;
    esac
  done
}
no_more_arguments() { if [ ${#REST[@]} -gt 0 ]; then die "did not expect '${REST[0]}'" "see $0 --help"; fi; }

need() { # names of settings that must not be empty
  local name
  for name; do
    if [ -z "${!name}" ]; then die "$name is not set" "set it in tpu_scripts/settings.sh, or: $name=... $0"; fi
  done
}

run_or_print() { # a command with an effect or a cost: done, or with --dry-run printed so that a shell could read it
  if [ "$DRY" = yes ]; then
    printf '+%s\n' "$(printf ' %q' "$@")" >&3 # in one piece: the ends of a pipe print at the same time
  else
    "$@"
  fi
}

pause() { # before try number $1 + 1: doubles, is cut at LONGEST_PAUSE, and up to a quarter is added by lot
  local seconds=$((FIRST_PAUSE << ($1 - 1)))
  if [ "$seconds" -gt "$LONGEST_PAUSE" ]; then seconds=$LONGEST_PAUSE; fi
  sleep $((seconds + (seconds > 3 ? RANDOM % (seconds / 4 + 1) : 0)))
}

shape() { # of type $1: sets FAMILY, CHIPS, HOSTS (of one slice), ACCELERATOR, IMAGE
  local count=${1##*-}
  FAMILY=${1%-*}
  FAMILY=${FAMILY/v5litepod/v5e}
  if ! [[ $count =~ ^[1-9][0-9]*$ ]]; then die "'$1' is not a TPU type" "e.g. v4-32, v5e-16, v5p-16, v6e-8"; fi
  case $FAMILY in
    v4) CHIPS=$((count / 2)) ACCELERATOR=v4-$count IMAGE=tpu-ubuntu2204-base ;;
    v5p) CHIPS=$((count / 2)) ACCELERATOR=v5p-$count IMAGE=v2-alpha-tpuv5 ;;
    v5e) CHIPS=$count ACCELERATOR=v5litepod-$count IMAGE=v2-alpha-tpuv5-lite ;;
    v6e) CHIPS=$count ACCELERATOR=v6e-$count IMAGE=v2-alpha-tpuv6e ;;
    *) die "'$1' is not a TPU type that these scripts know" "v4, v5e, v5p or v6e, e.g. v5p-16" ;;
  esac
  if [ "$CHIPS" -lt 1 ]; then die "'$1' is too small" "the smallest are v4-8, v5p-8, v5e-1 and v6e-1"; fi
  case $FAMILY:$CHIPS in
    v5e:[1-8] | v6e:[1-8]) HOSTS=1 ;;
    *) HOSTS=$(((CHIPS + 3) / 4)) ;;
  esac
}

role() { # $1 = train | teacher: sets RESOURCE, TYPE, SLICES, WHERE, NODES and what `shape` sets
  need PROJECT BUCKET
  RESOURCE=$NAME-$1
  case $1 in
    train) TYPE=$TRAIN_TYPE SLICES=$TRAIN_SLICES WHERE=$ZONE ;;
    teacher) TYPE=$TEACHER_TYPE SLICES=$TEACHER_SLICES WHERE=$TEACHER_ZONE ;;
    *) die "there is no role '$1'" "train or teacher" ;;
  esac
  shape "$TYPE"
  if [ "$SLICES" -gt 1 ] && [ "$QUEUED" != yes ]; then
    die "$SLICES slices need a queued resource" "set QUEUED=yes"
  fi
  NODES=("$RESOURCE")
  if [ "$SLICES" -gt 1 ]; then NODES=(); for ((i = 0; i < SLICES; i++)); do NODES+=("$RESOURCE-$i"); done; fi
  AT=(--project="$PROJECT" --zone="$WHERE")
}

usd_per_hour() { # of the role in hand
  local share=1 usd=USD_$FAMILY
  if [ "$CAPACITY" = spot ]; then share=$SPOT_SHARE; fi
  awk -v p="${!usd}" -v n="$((CHIPS * SLICES))" -v s="$share" 'BEGIN { printf "%.2f", p * n * s }'
}

describe() { # kind, name, field: the field, or ABSENT; any other failure ends the script, for it says nothing of what exists
  local said
  if [ "$DRY" = yes ]; then
    run_or_print gcloud compute tpus "$1" describe "$2" "${AT[@]}" --format="value($3)"
    echo ABSENT
  elif said=$(gcloud compute tpus "$1" describe "$2" "${AT[@]}" --format="value($3)" 2>&1); then
    echo "${said##*$'\n'}"
  elif [[ $said == *NOT_FOUND* || $said == *"not found"* ]]; then
    echo ABSENT
  else
    say "$said"
    die "cannot tell whether $2 exists in $WHERE" "nothing was changed; put right what gcloud says and run the same command again"
  fi
}

state() { # of the resource in hand: ABSENT | READY | WAITING | DEAD, and Google's own word behind it
  local word node
  if [ "$QUEUED" = yes ]; then word=$(describe queued-resources "$RESOURCE" state.state) || return 1; else word=READY; fi
  if [ "$word" = READY ] || [ "$word" = ACTIVE ]; then
    for node in "${NODES[@]}"; do
      word=$(describe tpu-vm "$node" state) || return 1 # set -e does not reach into $(…)
      if [ "$word" = ABSENT ] && [ "$QUEUED" = yes ]; then word=GONE; fi
      if [ "$word" != READY ]; then break; fi
    done
  fi
  case $word in
    ABSENT | READY) echo "$word" ;;
    PREEMPTED | TERMINATED | STOPPED | FAILED | SUSPENDED | SUSPENDING | GONE | DELETING) echo "DEAD $word" ;;
    *) echo "WAITING $word" ;;
  esac
}

# JAX's coordinator, the TPU runtime and the replicas listen on every address of a host; a VPC's usual rules let in all of
# its machines. So the slices of this NAME carry its tag: they reach each other, and nobody else reaches more than ssh.
wall() { # puts up what is missing of the two rules
  local rule said extra
  for rule in within without; do
    if [ "$DRY" = no ] && gcloud compute firewall-rules describe "$NAME-$rule" --project="$PROJECT" >/dev/null 2>&1; then
      continue
    fi
    case $rule in
      within) extra=(--action=allow --rules=all --priority=900 --source-tags="$NAME") ;;
      without) extra=(--action=deny --rules="tcp:1-21,tcp:23-65535,udp" --priority=901 --source-ranges=0.0.0.0/0) ;;
    esac
    if ! said=$(run_or_print gcloud compute firewall-rules create "$NAME-$rule" --project="$PROJECT" --network="$NETWORK" \
      --direction=ingress --target-tags="$NAME" "${extra[@]}" --quiet 2>&1); then
      say "$said"
      die "the firewall rule $NAME-$rule cannot be made" \
        "the role Compute Security Admin in $PROJECT, or FIREWALL=no (docs/tpu.md says what is open then)"
    fi
  done
}

still_costs() { say "$RESOURCE costs about $(usd_per_hour) USD an hour until tpu_scripts/delete $ROLE"; }

ssh_all() { # NODE WORKERS COMMAND: on these workers of one slice
  # shellcheck disable=SC2086
  run_or_print gcloud compute tpus tpu-vm ssh "$1" "${AT[@]}" --worker="$2" --command="$3" --quiet $SSH_FLAGS
}

on_workers() { # COMMAND: on every worker of every slice; fails if one fails
  local node failed=0
  for node in "${NODES[@]}"; do ssh_all "$node" all "$1" || failed=1; done
  return $failed
}

# shellcheck disable=SC2016  # the worker expands it
ON_WORKER='bash $HOME/skymath/current/tpu_scripts/on_worker'

on_job() { # COMMAND: on the workers that the role's jobs run on: all of train, the first of teacher
  if [ "$ROLE" = teacher ]; then ssh_all "${NODES[0]}" 0 "$1"; else on_workers "$1"; fi
}

commit() { # the full hash of COMMIT; refuses work that is not committed
  if [ "$COMMIT" = HEAD ] && [ -n "$(git -C "$ROOT" status --porcelain --untracked-files=no)" ]; then
    die "there are changes that are not committed, which no worker would get" "commit them, or name a commit: COMMIT=..."
  fi
  git -C "$ROOT" rev-parse --verify --quiet "$COMMIT^{commit}" || die "there is no commit '$COMMIT' here" "git log"
}
