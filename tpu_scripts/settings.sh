# shellcheck shell=bash disable=SC2034
# Every setting of tpu_scripts, with its default. Three ways to change one, the first that sets it wins:
#   NAME=mine tpu_scripts/create            the environment
#   SETTINGS=my.sh tpu_scripts/create       a file of your own with lines such as NAME=mine (keep keys and tokens out of it)
#   this file
: "${NAME:=skymath}"                 # first part of the name of everything that is created; lower case, digits, dashes
: "${PROJECT:=}"                     # Google Cloud project; needed
: "${ZONE:=us-east5-a}"              # zone of the training slice
: "${BUCKET:=}"                      # gs://... in the same region: code, weights and the workdir lie there; needed

# What to rent. v4-N and v5p-N count cores (two a chip), v5e-N and v6e-N count chips, as Google names them.
: "${TRAIN_TYPE:=v5p-16}"
: "${TRAIN_SLICES:=1}"               # more than one needs QUEUED=yes
: "${TEACHER_TYPE:=v6e-8}"
: "${TEACHER_SLICES:=1}"             # more slices, more JetStream replicas
: "${TEACHER_ZONE:=$ZONE}"
: "${CAPACITY:=on-demand}"           # on-demand | spot | reserved
: "${QUEUED:=no}"                    # yes: ask through a queued resource, which waits until there is capacity
: "${QUEUE_FOR:=24h}"                # a queued request that got nothing expires by itself after this
: "${RUNTIME:=}"                     # TPU VM image; empty = the family's, see lib.sh
: "${SSH_FLAGS:=}"                   # more flags for gcloud's ssh, such as --internal-ip or --tunnel-through-iap
: "${NETWORK:=default}"              # VPC network of the slices
: "${FIREWALL:=yes}"                 # yes: only slices of this NAME reach each other's ports (all but ssh); no: yours to see to
: "${INTERNAL_IPS:=no}"              # yes: no public addresses; the network then needs Private Google Access and a Cloud NAT

# What to run. Relative paths are looked up on the workers in ~/skymath, where `setup` puts the two models.
: "${CONFIG:=configs/skywork_mistral_7b.py}"
: "${OVERRIDES:=}"                   # more --config.KEY=VALUE, separated by blanks (none inside a value)
: "${WORKDIR:=$BUCKET/runs/$NAME}"   # what a run makes and resumes from
: "${BASE_MODEL:=}"                  # gs:// folder of the base model (Hugging Face layout); empty = the config's path as it is
: "${TEACHER_MODEL:=}"               # the same for the teacher that JetStream serves
: "${COMMIT:=HEAD}"                  # what all workers run; must be committed
: "${PYTHON_VERSION:=3.11}"          # fetched by uv where the machine lacks it
: "${SERVE_PORT:=9000}"              # gRPC port of the first replica of a host; the others take the next ones
: "${SERVE_REPLICAS:=}"              # JetStream replicas a host, one chip each; empty = one for every chip
: "${SERVE_FLAGS:=--dtype=bfloat16}" # more flags of `skymath serve`, such as --weights=int8 for a teacher that is too large
: "${SERVE_SLOTS:=128}"
: "${SERVE_MAX_LENGTH:=4096}"

# Patience, in seconds.
: "${TRIES:=8}"                      # how often a create is tried when there is no capacity
: "${FIRST_PAUSE:=30}"               # doubles from try to try
: "${LONGEST_PAUSE:=900}"
: "${SSH_TRIES:=4}"
: "${POLL:=60}"                      # between two looks at a resource or a job
: "${STOP_SECONDS:=600}"             # how long `stop` waits for the last checkpoint
: "${MAX_PREEMPTIONS:=50}"           # how often `run` re-creates a slice that was taken away
: "${MAX_RESTARTS:=3}"               # how often `run` restarts a job that died for another reason

# Money. YOURS TO CHECK: US list prices for one chip and hour, on demand, as remembered in 2025; they differ by region and
# change. The scripts only multiply; your invoice decides. https://cloud.google.com/tpu/pricing
: "${USD_v4:=3.22}"
: "${USD_v5e:=1.20}"
: "${USD_v5p:=4.20}"
: "${USD_v6e:=2.70}"
: "${SPOT_SHARE:=0.5}"               # a spot chip costs about this share of an on-demand chip; it varies by the day
: "${HOURS:=24}"                     # how long you mean to keep a slice: for the estimate only
: "${MAX_USD_PER_HOUR:=100}"         # `create` refuses what costs more
: "${ON_FAILURE:=delete}"            # what `reproduce` does with its slices when something fails: delete | keep

# Other places to run.
: "${GPU_EXTRA:=cuda12}"             # extra of pyproject.toml for a GPU machine: cuda12 | cuda13
: "${GKE_CLUSTER:=$NAME}"            # GKE through XPK
: "${GKE_IMAGE:=python:$PYTHON_VERSION-bookworm}"
: "${SLURM_NODES:=1}"                # Slurm: GPU nodes, GPUs of each, and how long at most
: "${SLURM_GPUS:=8}"
: "${SLURM_TIME:=24:00:00}"
: "${SLURM_FLAGS:=}"                 # more flags for sbatch, such as --partition=gpu
