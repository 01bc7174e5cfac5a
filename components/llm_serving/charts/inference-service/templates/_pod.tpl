{{/* A pod of the runtime. `role` is leader or worker where a replica spans nodes, and "" where it is one pod. */}}
{{- define "inference-service.pod" -}}
{{- $root := .root -}}
{{- $worker := eq .role "worker" -}}
metadata:
  labels:
    {{- include "inference-service.labels" $root | nindent 4 }}
    {{- with .role }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
  {{- with $root.Values.files }}
  annotations:
    # A runtime reads its files once: other files, other pods.
    checksum/files: {{ toJson . | sha256sum }}
  {{- end }}
spec:
  serviceAccountName: {{ $root.Release.Name }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int $root.Values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile:
      type: RuntimeDefault
  {{- if $root.Values.loader.image }}
  initContainers:
    {{- $folder := $root.Values.loader.copies | ternary ($root.Values.loader.folder | default $root.Release.Name) "" }}
    {{- include "inference-service.loader" (dict "root" $root "name" "model-loader" "source" $root.Values.loader.source "folder" $folder) | nindent 4 }}
    {{- range $root.Values.loader.adapters }}
    {{- include "inference-service.loader" (dict "root" $root "name" (printf "adapter-loader-%s" .name) "source" .source "folder" .name) | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: runtime
      image: {{ $root.Values.image }}
      imagePullPolicy: IfNotPresent
      {{- with $worker | ternary (concat $root.Values.args $root.Values.workerArgs) $root.Values.args }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      env:
        {{- include "inference-service.env" $root | trim | nindent 8 }}
      {{- if not $worker }}
      ports:
        - name: http
          containerPort: 8080
      startupProbe:
        httpGet:
          path: {{ $root.Values.healthPath }}
          port: http
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: {{ div (add1 (int $root.Values.startupSeconds)) 2 }}
      readinessProbe:
        httpGet:
          path: {{ $root.Values.healthPath }}
          port: http
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
      # Only runs once the startup probe has passed; a busy runtime may take its time to answer.
      livenessProbe:
        httpGet:
          path: {{ $root.Values.healthPath }}
          port: http
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: 6
      {{- end }}
      lifecycle:
        preStop:
          {{- if $worker }}
          # A worker outlasts the requests that its leader still answers. Its own process ends with the leader's, and this
          # command with it, as a sleep of the kubelet's would not.
          exec:
            command: [sleep, {{ sub (int $root.Values.terminationGracePeriodSeconds) (int $root.Values.preStopSeconds) | quote }}]
          {{- else }}
          sleep:
            seconds: {{ int $root.Values.preStopSeconds }}
          {{- end }}
      resources:
        {{- include "inference-service.resources" $root | nindent 8 }}
      securityContext:
        {{- include "inference-service.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        {{- if include "inference-service.copies" $root }}
        - name: models
          mountPath: /models
          readOnly: true
        {{- end }}
        - name: tmp
          mountPath: /tmp
        {{- if $root.Values.cacheVolumeMib }}
        - name: cache
          mountPath: /cache
        {{- end }}
        {{- if $root.Values.files }}
        - name: files
          mountPath: /etc/runtime
          readOnly: true
        {{- end }}
        {{- if $root.Values.sharedMemoryMib }}
        - name: shared-memory
          mountPath: /dev/shm
        {{- end }}
  volumes:
    {{- if include "inference-service.copies" $root }}
    - name: models
      {{- if $root.Values.modelVolumeMib }}
      emptyDir:
        sizeLimit: {{ include "inference-service.quantity" $root.Values.modelVolumeMib }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: {{ include "inference-service.quantity" $root.Values.tmpVolumeMib }}
    {{- if $root.Values.cacheVolumeMib }}
    - name: cache
      emptyDir:
        sizeLimit: {{ include "inference-service.quantity" $root.Values.cacheVolumeMib }}
    {{- end }}
    {{- if $root.Values.files }}
    - name: files
      configMap:
        name: {{ $root.Release.Name }}
    {{- end }}
    {{- if $root.Values.sharedMemoryMib }}
    - name: shared-memory
      emptyDir:
        medium: Memory
        sizeLimit: {{ include "inference-service.quantity" $root.Values.sharedMemoryMib }}
    {{- end }}
  {{- if .role }}
  # Each pod of a group on a node of its own.
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "inference-service.selector" $root | nindent 14 }}
          matchLabelKeys: [leaderworkerset.sigs.k8s.io/group-index]
  {{- else }}
  topologySpreadConstraints:
    - topologyKey: kubernetes.io/hostname
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "inference-service.selector" $root | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
