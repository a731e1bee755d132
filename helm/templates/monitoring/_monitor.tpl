{{/* {root, component, name, relabelings}: a ServiceMonitor or PodMonitor of one component. */}}
{{- define "gateway.monitor" -}}
{{- $pod := eq .root.Values.metrics.monitor "pod" -}}
apiVersion: monitoring.coreos.com/v1
kind: {{ ternary "PodMonitor" "ServiceMonitor" $pod }}
metadata:
  name: {{ .name }}
  labels:
    {{- include "gateway.labels" (dict "root" .root "component" .component) | nindent 4 }}
    {{- with .root.Values.metrics.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "gateway.selector" (dict "root" .root "component" .component) | nindent 6 }}
  namespaceSelector:
    matchNames: [{{ .root.Release.Namespace | quote }}]
  {{ ternary "podMetricsEndpoints" "endpoints" $pod }}:
    - port: http
      path: /metrics
      interval: {{ .root.Values.metrics.intervalSeconds }}s
      scrapeTimeout: {{ min 10 .root.Values.metrics.intervalSeconds }}s
      relabelings:
        # One job, whichever kind of monitor found it.
        - {targetLabel: job, replacement: {{ .name }}}
        {{- with .relabelings }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
