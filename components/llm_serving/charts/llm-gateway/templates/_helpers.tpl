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

{{/* The ports, as a JSON list, of models, embedder and issuer whose address isn't that of a Service in the cluster. */}}
{{- define "llm-gateway.outsidePorts" -}}
{{- $ports := list -}}
{{- $embedder := .Values.cache.semantic | default dict -}}
{{- $services := ternary (list (dict "url" $embedder.embedder_url)) list (not (empty $embedder.embedder_url)) -}}
{{- range .Values.models -}}
{{- $services = concat $services (.versions | default (list .)) -}}
{{- end -}}
{{- with .Values.jwt.issuer -}}
{{- $services = append $services (dict "url" .) -}}
{{- end -}}
{{- range $services -}}
{{- $url := urlParse .url -}}
{{- $host := $url.host | splitList ":" -}}
{{- if not (hasSuffix ".svc.cluster.local" (first $host)) -}}
{{- $port := ternary "443" "80" (eq $url.scheme "https") -}}
{{- if gt (len $host) 1 -}}{{- $port = last $host -}}{{- end -}}
{{- $ports = append $ports (int $port) -}}
{{- end -}}
{{- end -}}
{{- uniq $ports | toJson -}}
{{- end -}}
