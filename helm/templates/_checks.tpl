{{/* What cannot work is refused here, with what to change. */}}

{{- define "gateway.graceSeconds" -}}
{{- $least := add .Values.gateway.preStopSeconds .Values.gateway.drainSeconds 45 -}}
{{- $given := .Values.gateway.terminationGracePeriodSeconds -}}
{{- if and $given (lt (int64 $given) $least) -}}
{{- fail (printf "gateway.terminationGracePeriodSeconds: %d is too short: preStopSeconds, drainSeconds and 45 s for the last records are %d, and running streams would be cut. Leave it empty, or lower drainSeconds." (int64 $given) $least) -}}
{{- end -}}
{{- $given | default (add $least 15) -}}
{{- end -}}

{{/* What the gateway is told to use, its NetworkPolicy lets it reach. */}}
{{- define "gateway.checkWorkerPorts" -}}
{{- $open := list -}}
{{- range .Values.networkPolicy.externalWorkers.ports -}}
{{- $open = append $open (int64 .) -}}
{{- end -}}
{{- range .Values.externalWorkers -}}
{{- $url := urlParse .url -}}
{{- $given := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $port := $given | default (ternary "443" "80" (eq $url.scheme "https")) | int64 -}}
{{- if not (has $port $open) -}}
{{- fail (printf "networkPolicy.externalWorkers.ports: has not %d, on which the worker %s is; add it." $port .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gateway.checks" -}}
{{- if not (regexMatch "^[a-z]" (include "gateway.fullname" .)) -}}
{{- fail (printf "fullnameOverride: Services would be named %s, and Kubernetes wants a letter first; set another name." (include "gateway.fullname" .)) -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.gatewayExtraEgress) -}}
{{- include "gateway.checkWorkerPorts" . -}}
{{- end -}}
{{- range $variable := include "gateway.secretVariables" . | fromYaml -}}
{{- $name := $variable | trimPrefix "GATEWAY_" | trimSuffix "_FILE" | lower -}}
{{- if hasKey $.Values.gateway.config $name -}}
{{- fail (printf "gateway.config.%s: a secret does not belong in a ConfigMap; put it into the Secret that secrets.existingSecret names, and its key into secrets.keys." $name) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "[@?#]" (.Values.gateway.config.otlp_endpoint | default "") -}}
{{- fail "gateway.config.otlp_endpoint: a credential does not belong in a ConfigMap; name its key in secrets.keys.otlpHeaders, and leave the URL without user, query and fragment." -}}
{{- end -}}
{{- $instead := dict "drain_seconds" "gateway.drainSeconds" "workers" "externalWorkers" "workers_dns" "pools and externalWorkers" "replicas" "gateway.replicas and gateway.processes" "home" "audit.persistence" "audit_directory" "audit.persistence" "host" "service" "port" "service.port" -}}
{{- range $name, $value := $instead -}}
{{- if hasKey $.Values.gateway.config $name -}}
{{- fail (printf "gateway.config.%s: is set by the chart; use %s." $name $value) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.pools .Values.externalWorkers (hasKey .Values.gateway.config "workers_file")) -}}
{{- fail "pools, externalWorkers: both are empty, and a gateway does not start without workers. Name one." -}}
{{- end -}}
{{- $reserved := list "replicas" "postgresql" "redis" -}}
{{- range (include "gateway.pools" . | fromYaml).pools -}}
{{- if has .name $reserved -}}
{{- fail (printf "pools: %s is the name of a Service of the chart's own; give the pool another." .name) -}}
{{- end -}}
{{- if and .gpus (gt (int64 .tensorParallelSize) (int64 .gpus)) -}}
{{- fail (printf "pools: %s has a tensorParallelSize of %d and %d gpus; a worker needs a GPU for each rank." .name (int64 .tensorParallelSize) (int64 .gpus)) -}}
{{- end -}}
{{- if gt (int64 .autoscaling.minReplicas) (int64 .autoscaling.maxReplicas) -}}
{{- fail (printf "pools: %s scales from minReplicas %d to maxReplicas %d, which is less." .name (int64 .autoscaling.minReplicas) (int64 .autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas: is more than maxReplicas." -}}
{{- end -}}
{{- $names := list -}}
{{- range concat .Values.pools .Values.externalWorkers -}}
{{- if has .name $names -}}
{{- fail (printf "pools, externalWorkers: the name %s is given twice." .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- if and .Values.postgresql.enabled (eq .Values.migration.mode "hook") -}}
{{- fail "migration.mode: the database of postgresql.enabled is not there yet when a hook runs; set initContainer." -}}
{{- end -}}
{{- $keda := eq .Values.autoscaling.mode "keda" -}}
{{- range (include "gateway.pools" . | fromYaml).pools -}}
{{- $keda = or $keda .autoscaling.enabled -}}
{{- end -}}
{{- if and $keda (not .Values.autoscaling.keda.prometheusUrl) -}}
{{- fail "autoscaling.keda.prometheusUrl: is empty, and KEDA asks it for the load." -}}
{{- end -}}
{{- if and $keda (eq .Values.metrics.monitor "none") -}}
{{- fail "metrics.monitor: KEDA needs the metrics in Prometheus, with the labels of a monitor; set service or pod." -}}
{{- end -}}
{{- end -}}
