{{- define "llm-gateway.selector" -}}
app.kubernetes.io/name: llm-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "llm-gateway.labels" -}}
{{ include "llm-gateway.selector" . }}
app.kubernetes.io/part-of: llm-serving
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The longest that a request may take: what a pod that goes waits for. 120 is the gateway's own default. */}}
{{- define "llm-gateway.drainSeconds" -}}
{{- $longest := 0 -}}
{{- range .Values.models -}}
{{- $longest = max $longest (.timeout_seconds | default 120 | int) -}}
{{- end -}}
{{- add $longest 10 -}}
{{- end -}}
