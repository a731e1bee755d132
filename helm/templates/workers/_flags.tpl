{{/* What follows `vllm serve`, one argument a line of a YAML list. The argument is a pool. */}}
{{- define "gateway.workerFlags" -}}
- {{ .model | quote }}
{{- with .revision }}
- --revision={{ . }}
{{- end }}
- --served-model-name={{ .servedModelName }}
- --host=0.0.0.0
- --port=8000
- --tensor-parallel-size={{ int64 .tensorParallelSize }}
# Without the vision tower, 0.9 GiB that nobody uses.
- --language-model-only
- --max-model-len={{ int64 .maxModelLen }}
- --max-num-seqs={{ int64 .maxNumSeqs }}
- --gpu-memory-utilization={{ .gpuMemoryUtilization }}
# The gateway's filter is the second line behind this parser.
- --reasoning-parser=qwen3
- --enable-auto-tool-choice
- --tool-call-parser=qwen3_coder
# Behind the gateway's own: cold, this model loops.
- --override-generation-config={{ `{"temperature":0.6,"top_p":0.95,"top_k":20,"repetition_penalty":1.05}` }}
# usage.prompt_tokens_details.cached_tokens, by which the gateway charges and routes.
- --enable-prompt-tokens-details
# Counts running and waiting requests together.
- --max-num-queued-reqs={{ add .maxNumSeqs .queuedRequests }}
- --max-num-queued-tokens={{ int64 .queuedTokens }}
- --shutdown-timeout={{ int64 .shutdownSeconds }}
- --disable-fastapi-docs
{{- with .extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}
