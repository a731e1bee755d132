{{/* `gateway db upgrade`, then the rights. The image has no shell: each is a container. */}}
{{- define "gateway.migrationContainers" -}}
{{- $commands := list (dict "name" "upgrade" "args" (list "db" "upgrade")) -}}
{{- if .Values.migration.grantRole -}}
{{- $commands = append $commands (dict "name" "grant" "args" (list "db" "grant" .Values.migration.grantRole)) -}}
{{- end -}}
{{- range $commands }}
- name: {{ .name }}
  image: {{ include "gateway.image" $ }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  args: {{ .args | toJson }}
  env:
    - {name: GATEWAY_DATABASE_URL_FILE, value: /run/secrets/owner/database-url}
  resources:
    {{- toYaml $.Values.migration.resources | nindent 4 }}
  securityContext:
    {{- include "gateway.containerSecurity" true | nindent 4 }}
  volumeMounts:
    - {name: owner, mountPath: /run/secrets/owner, readOnly: true}
    - {name: temporary, mountPath: /tmp}
{{- end }}
{{- end -}}

{{- define "gateway.ownerSecret" -}}
secret:
  secretName: {{ .Values.migration.secret.name | quote }}
  defaultMode: 0440
  items:
    - {key: {{ .Values.migration.secret.key | quote }}, path: database-url}
{{- end -}}
