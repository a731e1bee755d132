{{- define "gateway.podTemplate" -}}
{{- $selector := dict "root" . "component" "gateway" -}}
metadata:
  labels:
    {{- include "gateway.labels" $selector | nindent 4 }}
    {{- with .Values.gateway.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed setting restarts the pods, one by one.
    checksum/config: {{ include "gateway.config" . | sha256sum }}
    {{- with .Values.gateway.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "gateway.serviceAccountName" . | quote }}
  {{- include "gateway.podBasics" (dict "root" . "user" 10001 "group" 10001) | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "gateway.graceSeconds" . }}
  {{- with include "gateway.scheduling" .Values.gateway }}
  {{- trim . | nindent 2 }}
  {{- end }}
  {{- if .Values.gateway.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range .Values.gateway.topologySpread.topologyKeys }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $.Values.gateway.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "gateway.selector" $selector | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- if eq .Values.migration.mode "initContainer" }}
  initContainers:
    {{- include "gateway.migrationContainers" . | trim | nindent 4 }}
  {{- end }}
  containers:
    - name: gateway
      image: {{ include "gateway.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --host=0.0.0.0
        - --port=8080
        - --processes={{ .Values.gateway.processes }}
        {{- with .Values.gateway.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- include "gateway.environment" . | nindent 8 }}
        {{- with .Values.gateway.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: 8080, protocol: TCP}
      startupProbe:
        {{- include "gateway.httpProbe" (dict "path" "/healthz" "probe" .Values.gateway.startupProbe) | nindent 8 }}
      livenessProbe:
        {{- include "gateway.httpProbe" (dict "path" "/healthz" "probe" .Values.gateway.livenessProbe) | nindent 8 }}
      readinessProbe:
        {{- include "gateway.httpProbe" (dict "path" "/readyz" "probe" .Values.gateway.readinessProbe) | nindent 8 }}
      {{- if .Values.gateway.preStopSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.gateway.preStopSeconds }}
      {{- end }}
      resources:
        {{- toYaml .Values.gateway.resources | nindent 8 }}
      securityContext:
        {{- include "gateway.containerSecurity" true | nindent 8 }}
      volumeMounts:
        - {name: home, mountPath: {{ include "gateway.home" . }}}
        - {name: temporary, mountPath: /tmp}
        - {name: config, mountPath: /etc/gateway, readOnly: true}
        - {name: secrets, mountPath: {{ include "gateway.secretDirectory" . }}, readOnly: true}
        {{- if (include "gateway.workerKeys" . | fromYaml).keys }}
        - {name: worker-keys, mountPath: {{ include "gateway.workerKeyDirectory" . }}, readOnly: true}
        {{- end }}
        {{- with .Values.gateway.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "gateway.volumes" . | trim | nindent 4 }}
{{- end -}}

{{- define "gateway.environment" -}}
- {name: GATEWAY_CONFIG, value: /etc/gateway/config.yaml}
{{- $variables := include "gateway.secretVariables" . | fromYaml }}
{{- range $name, $_ := (include "gateway.secretKeys" . | fromYaml).keys }}
- name: {{ get $variables $name }}
  value: {{ include "gateway.secretDirectory" $ }}/{{ $name }}
{{- end }}
{{- if .Values.redis.enabled }}
- name: GATEWAY_REDIS_URL
  value: redis://{{ include "gateway.fullname" . }}-redis:6379/0
{{- end }}
{{- end -}}

{{- define "gateway.volumes" -}}
{{- if not .Values.audit.persistence.enabled }}
- name: home
  emptyDir:
    sizeLimit: {{ .Values.audit.temporarySize }}
{{- end }}
- name: temporary
  emptyDir:
    sizeLimit: {{ .Values.gateway.temporarySize }}
- name: config
  configMap:
    name: {{ include "gateway.fullname" . }}
- name: secrets
  secret:
    secretName: {{ .Values.secrets.existingSecret | quote }}
    defaultMode: 0440
    items:
      {{- range $name, $key := (include "gateway.secretKeys" . | fromYaml).keys }}
      - {key: {{ $key | quote }}, path: {{ $name }}}
      {{- end }}
{{- with (include "gateway.workerKeys" . | fromYaml).keys }}
- name: worker-keys
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .secret | quote }}
          items:
            - {key: {{ .key | quote }}, path: {{ .worker }}}
      {{- end }}
{{- end }}
{{- if eq .Values.migration.mode "initContainer" }}
- name: owner
  {{- include "gateway.ownerSecret" . | nindent 2 }}
{{- end }}
{{- with .Values.gateway.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
