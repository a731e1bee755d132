{{/* {root, pool} */}}
{{- define "gateway.workerTemplate" -}}
{{- $pool := .pool -}}
{{- $selector := dict "root" .root "component" "worker" "pool" $pool.name -}}
metadata:
  labels:
    {{- include "gateway.labels" $selector | nindent 4 }}
    {{- with $pool.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $pool.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  # The namespace's own account, not the gateway's: workers need no identity.
  serviceAccountName: default
  # 2000:0 is the user `vllm` of the image; PyTorch does not start as one that it does not know.
  {{- include "gateway.podBasics" (dict "root" .root "user" 2000 "group" 0) | nindent 2 }}
  # preStop, the drain, and a minute in which vLLM ends its processes.
  terminationGracePeriodSeconds: {{ add $pool.preStopSeconds $pool.shutdownSeconds 60 }}
  {{- with $pool.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
  {{- end }}
  {{- with include "gateway.scheduling" $pool }}
  {{- trim . | nindent 2 }}
  {{- end }}
  containers:
    - name: vllm
      image: {{ include "gateway.imageName" $pool.image }}
      imagePullPolicy: {{ $pool.image.pullPolicy }}
      command: [vllm, serve]
      args:
        {{- include "gateway.workerFlags" $pool | nindent 8 }}
      env:
        {{- include "gateway.workerEnvironment" . | nindent 8 }}
        {{- with $pool.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: 8000, protocol: TCP}
      startupProbe:
        {{- include "gateway.httpProbe" (dict "path" "/health" "probe" $pool.startupProbe) | nindent 8 }}
      livenessProbe:
        {{- include "gateway.httpProbe" (dict "path" "/health" "probe" $pool.livenessProbe) | nindent 8 }}
      readinessProbe:
        {{- include "gateway.httpProbe" (dict "path" "/health" "probe" $pool.readinessProbe) | nindent 8 }}
      {{- if $pool.preStopSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ int64 $pool.preStopSeconds }}
      {{- end }}
      resources:
        {{- include "gateway.workerResources" $pool | nindent 8 }}
      securityContext:
        # Writable: what vLLM and CUDA write beside their caches is not known for every release.
        {{- include "gateway.containerSecurity" false | nindent 8 }}
      volumeMounts:
        - {name: cache, mountPath: /cache}
        - {name: shared-memory, mountPath: /dev/shm}
  volumes:
    - name: shared-memory
      emptyDir:
        medium: Memory
        sizeLimit: {{ $pool.sharedMemorySize }}
    {{- with include "gateway.cacheVolume" $pool.modelCache }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* {root, pool} */}}
{{- define "gateway.workerEnvironment" -}}
- {name: HF_HOME, value: /cache/huggingface}
# What is compiled at the first start is found at the next.
- {name: VLLM_CACHE_ROOT, value: /cache/vllm}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
{{- if not .root.Values.networkPolicy.workersDownload }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- with .pool.apiKeySecret }}
{{- if .name }}
# Not --api-key: others see a process's arguments.
- name: VLLM_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}
{{- end }}
{{- with .pool.huggingFaceTokenSecret }}
{{- if .name }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* A pool's, with its GPUs: Kubernetes wants them as a limit. */}}
{{- define "gateway.workerResources" -}}
{{- $gpus := dict .gpuResource (int64 .gpus) -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int64 .gpus) 0 -}}
{{- $_ := set $resources "limits" (merge (dict) ($resources.limits | default dict) $gpus) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "gateway.cacheVolume" -}}
{{- if eq .type "existingClaim" -}}
- name: cache
  persistentVolumeClaim:
    claimName: {{ required "modelCache.existingClaim: name the claim that modelCache.type asks for." .existingClaim | quote }}
{{- else if eq .type "hostPath" -}}
- name: cache
  hostPath:
    path: {{ required "modelCache.hostPath: name the directory that modelCache.type asks for." .hostPath }}
    type: Directory
{{- else if eq .type "emptyDir" -}}
- name: cache
  emptyDir:
    sizeLimit: {{ .size }}
{{- end -}}
{{- end -}}
