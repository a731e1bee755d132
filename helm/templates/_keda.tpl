{{/* {root, replicas} */}}
{{- define "gateway.kedaBasics" -}}
pollingInterval: {{ .root.Values.autoscaling.keda.pollingSeconds }}
# Without an answer of Prometheus the load is not known, and not zero.
fallback:
  failureThreshold: {{ .root.Values.autoscaling.keda.failureThreshold }}
  replicas: {{ .replicas }}
  behavior: currentReplicasIfHigher
{{- end -}}

{{/* {root, query, threshold}: of each replica. */}}
{{- define "gateway.kedaTrigger" -}}
- type: prometheus
  metricType: AverageValue
  metadata:
    serverAddress: {{ .root.Values.autoscaling.keda.prometheusUrl }}
    query: {{ .query | quote }}
    threshold: {{ .threshold | quote }}
    ignoreNullValues: "false"
{{- end -}}
