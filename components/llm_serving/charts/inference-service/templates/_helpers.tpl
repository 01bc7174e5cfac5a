{{- define "inference-service.selector" -}}
app.kubernetes.io/name: inference-service
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The pods that answer requests: all, or the first of each group where a replica spans nodes. */}}
{{- define "inference-service.answering" -}}
{{ include "inference-service.selector" . }}
{{- if gt (int .Values.nodes) 1 }}
app.kubernetes.io/component: leader
{{- end }}
{{- end -}}

{{- define "inference-service.labels" -}}
{{ include "inference-service.selector" . }}
app.kubernetes.io/part-of: llm-serving
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "inference-service.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The fewest and the most pods that there may be. */}}
{{- define "inference-service.leastReplicas" -}}
{{ if .Values.autoscaling }}{{ int .Values.autoscaling.minReplicas }}{{ else }}{{ int .Values.replicas }}{{ end }}
{{- end -}}

{{- define "inference-service.mostReplicas" -}}
{{ int (.Values.autoscaling.maxReplicas | default .Values.replicas) }}
{{- end -}}

{{/* So many MiB, as the API server writes it: another spelling of the same shows up as a change after a refresh. */}}
{{- define "inference-service.quantity" -}}
{{- if mod . 1024 }}{{ int . }}Mi{{ else if mod . 1048576 }}{{ div . 1024 }}Gi{{ else }}{{ div . 1048576 }}Ti{{ end -}}
{{- end -}}

{{/* Requests and limits of the runtime: what the values say, the GPUs, and the disk that the volumes may fill. */}}
{{- define "inference-service.resources" -}}
{{- $requests := deepCopy (.Values.resources.requests | default dict) -}}
{{- $limits := deepCopy (.Values.resources.limits | default dict) -}}
{{- $_ := set $requests "ephemeral-storage" (include "inference-service.quantity" (add .Values.modelVolumeMib .Values.tmpVolumeMib .Values.cacheVolumeMib)) -}}
{{- if .Values.gpus -}}
{{- $_ = set $limits "nvidia.com/gpu" (.Values.gpus | int | toString) -}}
{{- end -}}
{{ toYaml (dict "requests" $requests "limits" $limits) }}
{{- end -}}

{{/* Caches that libraries keep in the home folder go where there is room for them. */}}
{{- define "inference-service.env" -}}
{{- $env := merge dict .Values.env (dict "HOME" "/tmp" "HF_HOME" "/tmp/huggingface") -}}
{{- if and .Values.loader.image (not .Values.loader.copies) -}}
{{- $_ := set $env "WEIGHTS_URL" .Values.loader.source -}}
{{- end -}}
{{- range $name, $value := $env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Whether anything is copied to the pod: the model's weights, or adapters. */}}
{{- define "inference-service.copies" -}}
{{- if or .Values.loader.copies .Values.loader.adapters }}true{{ end -}}
{{- end -}}

{{/* A loader of one revision: of `source`, into `folder` below /models; without one it only waits for the revision. */}}
{{- define "inference-service.loader" -}}
- name: {{ .name }}
  image: {{ .root.Values.loader.image }}
  imagePullPolicy: IfNotPresent
  args:
    - {{ .source }}
    {{- with .folder }}
    - /models/{{ . }}
    {{- end }}
    - --wait-seconds={{ int .root.Values.loader.timeoutSeconds }}
  # It ends before the runtime starts, so what it asks for is free.
  {{- with .root.Values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "inference-service.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    {{- if .folder }}
    - name: models
      mountPath: /models
    {{- end }}
    - name: tmp
      mountPath: /tmp
{{- end -}}
