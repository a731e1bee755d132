{{/* Parts of NetworkPolicies. */}}

{{/* Names are looked up in the cluster's own DNS, wherever it runs. */}}
{{- define "gateway.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{/* {to, ports}: to anywhere where nobody is named. */}}
{{- define "gateway.egress" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* {root, component}: to pods of this release. */}}
{{- define "gateway.podPeer" -}}
- podSelector:
    matchLabels:
      {{- include "gateway.selector" . | nindent 6 }}
{{- end -}}

{{- define "gateway.databaseEgress" -}}
{{- if .Values.postgresql.enabled -}}
- ports:
    - {protocol: TCP, port: 5432}
  to:
    {{- include "gateway.podPeer" (dict "root" . "component" "postgresql") | nindent 4 }}
{{- else -}}
{{- include "gateway.egress" (dict "to" .Values.networkPolicy.database.to "ports" (list .Values.networkPolicy.database.port)) -}}
{{- end -}}
{{- end -}}

{{- define "gateway.redisEgress" -}}
{{- if .Values.redis.enabled -}}
- ports:
    - {protocol: TCP, port: 6379}
  to:
    {{- include "gateway.podPeer" (dict "root" . "component" "redis") | nindent 4 }}
{{- else if .Values.secrets.keys.redisUrl -}}
{{- include "gateway.egress" (dict "to" .Values.networkPolicy.redis.to "ports" (list .Values.networkPolicy.redis.port)) -}}
{{- end -}}
{{- end -}}
