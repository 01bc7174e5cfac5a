{{- define "gpu-agents.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "gpu-agents.labels" -}}
{{ include "gpu-agents.selector" . }}
app.kubernetes.io/part-of: llm-serving
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}
