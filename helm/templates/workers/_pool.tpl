{{/* Every pool, complete: what it does not say is poolDefaults'. A list, under `pools`. */}}
{{- define "gateway.pools" -}}
{{- $pools := list -}}
{{- range .Values.pools -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy .) -}}
{{- if not $pool.tags -}}{{- $_ := set $pool "tags" (list .name) -}}{{- end -}}
{{- if not $pool.tensorParallelSize -}}{{- $_ := set $pool "tensorParallelSize" $pool.gpus -}}{{- end -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- dict "pools" $pools | toYaml -}}
{{- end -}}

{{/* {root, pool}: of its StatefulSet, and of the name behind which its workers are. */}}
{{- define "gateway.poolName" -}}
{{- printf "%s-%s" (include "gateway.fullname" .root) .pool.name -}}
{{- end -}}
