{{/* The gateway's settings: one YAML file, and its secrets as files. */}}

{{- define "gateway.home" -}}/var/lib/gateway{{- end -}}
{{- define "gateway.secretDirectory" -}}/run/secrets/gateway{{- end -}}
{{- define "gateway.workerKeyDirectory" -}}/run/secrets/workers{{- end -}}

{{/* Names of secrets in values, and in the environment. */}}
{{- define "gateway.secretVariables" -}}
databaseUrl: GATEWAY_DATABASE_URL_FILE
keyPepper: GATEWAY_KEY_PEPPER_FILE
redisUrl: GATEWAY_REDIS_URL_FILE
adminToken: GATEWAY_ADMIN_TOKEN_FILE
sealingKey: GATEWAY_SEALING_KEY_FILE
auditSigningKey: GATEWAY_AUDIT_SIGNING_KEY_FILE
otlpHeaders: GATEWAY_OTLP_HEADERS_FILE
{{- end -}}

{{/* Those in use, as `keys: {databaseUrl: database-url}`. */}}
{{- define "gateway.secretKeys" -}}
{{- $keys := dict -}}
{{- range $name, $key := .Values.secrets.keys -}}
{{- if and $key (not (and (eq $name "redisUrl") $.Values.redis.enabled)) -}}
{{- $_ := set $keys $name $key -}}
{{- end -}}
{{- end -}}
{{- dict "keys" $keys | toYaml -}}
{{- end -}}

{{/* Workers' keys: a list of {worker, secret, key}, under `keys`. */}}
{{- define "gateway.workerKeys" -}}
{{- $keys := list -}}
{{- range (include "gateway.pools" . | fromYaml).pools -}}
{{- if .apiKeySecret.name -}}
{{- $keys = append $keys (dict "worker" (printf "pool-%s" .name) "secret" .apiKeySecret.name "key" .apiKeySecret.key) -}}
{{- end -}}
{{- end -}}
{{- range .Values.externalWorkers -}}
{{- if .apiKeySecret -}}
{{- $keys = append $keys (dict "worker" (printf "external-%s" .name) "secret" .apiKeySecret.name "key" .apiKeySecret.key) -}}
{{- end -}}
{{- end -}}
{{- dict "keys" $keys | toYaml -}}
{{- end -}}

{{/* How many processes share the limits, for one that starts while Redis is away: the most there
     may be, as the limits are to hold. */}}
{{- define "gateway.limitSharers" -}}
{{- $replicas := ternary .Values.gateway.replicas .Values.autoscaling.maxReplicas (eq .Values.autoscaling.mode "none") -}}
{{- mul $replicas .Values.gateway.processes -}}
{{- end -}}

{{/* The content of GATEWAY_CONFIG. */}}
{{- define "gateway.config" -}}
{{- $names := list -}}
{{- $urls := list -}}
{{- range (include "gateway.pools" . | fromYaml).pools -}}
{{- $host := printf "%s.%s.svc" (include "gateway.poolName" (dict "root" $ "pool" .)) $.Release.Namespace -}}
{{- $worker := dict "url" (printf "http://%s:8000" $host) "tags" .tags "max_model_len" (int64 .maxModelLen) -}}
{{- if .maxConcurrency -}}
{{- $_ := set $worker "max_concurrency" (int64 .maxConcurrency) -}}
{{- end -}}
{{- if .apiKeySecret.name -}}
{{- $_ := set $worker "api_key_file" (printf "%s/pool-%s" (include "gateway.workerKeyDirectory" $) .name) -}}
{{- end -}}
{{- $names = append $names $worker -}}
{{- end -}}
{{- range .Values.externalWorkers -}}
{{- $worker := merge (dict "url" .url) (.settings | default dict) -}}
{{- if .apiKeySecret -}}
{{- $_ := set $worker "api_key_file" (printf "%s/external-%s" (include "gateway.workerKeyDirectory" $) .name) -}}
{{- end -}}
{{- if .eachAddress -}}
{{- $names = append $names $worker -}}
{{- else -}}
{{- $urls = append $urls $worker -}}
{{- end -}}
{{- end -}}
{{- $config := deepCopy .Values.gateway.config -}}
{{- $_ := set $config "home" (include "gateway.home" .) -}}
{{- $_ := set $config "drain_seconds" (int64 .Values.gateway.drainSeconds) -}}
{{- $_ := set $config "replicas" (include "gateway.limitSharers" . | int64) -}}
{{- with $names -}}{{- $_ := set $config "workers_dns" . -}}{{- end -}}
{{- with $urls -}}{{- $_ := set $config "workers" . -}}{{- end -}}
{{- toYaml $config -}}
{{- end -}}
