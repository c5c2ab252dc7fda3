#!/usr/bin/env bash
# Ten minutes on a machine with a CUDA GPU: everything that we would want to know, into one folder to attach to an issue.
#
#     bash docs/tools/gpu/gpu_visit.sh [FOLDER]
#
# Needs the project installed (README) with a CUDA build of torch. It was never run on a GPU: say so if a step fails.
set -uo pipefail
cd "$(dirname "$0")/../../.."
out=${1:-gpu-visit}
mkdir -p "$out"
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD

run() { # NAME SECONDS COMMAND…
  local name=$1 seconds=$2
  shift 2
  echo "=== $name: $*" | tee "$out/$name.txt"
  timeout "$seconds" "$@" 2>&1 | tee -a "$out/$name.txt"
}

run machine 30 bash -c 'nvidia-smi; nproc; free -g; python -c "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())"'
run tests 90 python -m pytest -c /dev/null --rootdir=. -p no:cacheprovider -q tests/core/runtime/test_cuda_graph_runtime.py tests/core/decoding/test_whole_step.py -k on_a_gpu
run report-float32 100 python docs/tools/gpu/gpu_report.py --device cuda --dtype float32 --prompts 3 --tokens 64 --budgets 16,48
run report-bfloat16 150 python docs/tools/gpu/gpu_report.py --device cuda --dtype bfloat16
run host-work 45 python docs/tools/gpu/host_work.py --tokens 48 --rounds 3
run calls-7b 45 python docs/tools/benchmarks/call_cost.py --preset llama-7b --device cuda --dtype bfloat16 --rows 1,8,16,32,64
run calls-7b-eager 40 python docs/tools/benchmarks/call_cost.py --preset llama-7b --device cuda --dtype bfloat16 --rows 1,16 --eager
run bench 100 python -m pass_core bench --device cuda --dtype bfloat16 --prompts 2 -k 6 --temperature 0.8 --embeddings best --embeddings plain --minutes 1
echo "Everything is in $out. Attach that folder."
