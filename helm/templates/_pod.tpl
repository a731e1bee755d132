{{/* What all pods have in common: the restricted Pod Security Standard, and nothing of the cluster. */}}

{{/* {root, user, group}: of the pod, whose volumes are the user's. */}}
{{- define "gateway.podBasics" -}}
automountServiceAccountToken: false
# Kubernetes would set GATEWAY_PORT for a Service named `gateway`, and VLLM_PORT for one named
# `vllm`: both would be read as settings.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .group }}
  fsGroup: {{ .user }}
  # A large volume is not walked through at each start.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Of a container; the argument says whether its image can live without writing beside volumes. */}}
{{- define "gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ . }}
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods go: {nodeSelector, tolerations, affinity, priorityClassName, ...} */}}
{{- define "gateway.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* {probe, path}: on the port named http. */}}
{{- define "gateway.httpProbe" -}}
httpGet:
  path: {{ .path }}
  port: http
{{ toYaml .probe }}
{{- end -}}
