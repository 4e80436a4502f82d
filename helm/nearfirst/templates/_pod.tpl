{{/* Pods of servers and workers. All of these take {root, component}. */}}

{{- define "nearfirst.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "nearfirst.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "nearfirst.pod" -}}
{{- $values := .root.Values -}}
{{- $component := .component -}}
{{- $isServer := eq $component.role "server" -}}
metadata:
  labels: {{- include "nearfirst.componentLabels" . | nindent 4 }}
  {{- with $component.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if $component.nodes }}
  subdomain: {{ $component.name }}
  restartPolicy: OnFailure
  {{- end }}
  serviceAccountName: {{ include "nearfirst.fullname" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "nearfirst.grace" . }}
  securityContext: {{- include "nearfirst.podSecurityContext" . | nindent 4 }}
  {{- with $values.images.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $component.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $component.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $component.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $component.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "nearfirst.selectorLabels" . | nindent 10 }}
  containers:
    - name: {{ $component.role }}
      image: {{ include "nearfirst.image" (dict "root" .root "image" $component.program.image "gpus" $component.gpus) }}
      imagePullPolicy: {{ $values.images.pullPolicy }}
      securityContext: {{- include "nearfirst.securityContext" . | nindent 8 }}
      command: {{- include (ternary "nearfirst.serverCommand" "nearfirst.workerCommand" $isServer) . | nindent 8 }}
      env: {{- include "nearfirst.env" . | nindent 8 }}
      {{- if and (eq $component.service "training") $values.trackers.existingSecret }}
      envFrom:
        - secretRef: {name: {{ $values.trackers.existingSecret }}}
      {{- end }}
      {{- if $isServer }}
      ports:
        - {name: http, containerPort: 8000, protocol: TCP}
      {{- include "nearfirst.probes" . | nindent 6 }}
      lifecycle:
        preStop: {exec: {command: [sleep, "5"]}}  # until the Service sends nothing more here
      {{- else }}
      {{- if $values.monitoring.podMonitor.enabled }}
      ports:
        - {name: metrics, containerPort: {{ int $values.monitoring.podMonitor.port }}, protocol: TCP}
      {{- end }}
      {{- include "nearfirst.workerProbes" . | nindent 6 }}
      {{- end }}
      resources: {{- include "nearfirst.resources" $component | nindent 8 }}
      volumeMounts: {{- include "nearfirst.volumeMounts" . | nindent 8 }}
  volumes: {{- include "nearfirst.volumes" . | nindent 4 }}
{{- end -}}

{{/* A training worker is given the time that its jobs may take to save their state, and a minute to put them back. */}}
{{- define "nearfirst.grace" -}}
{{- if eq .component.service "training" -}}
{{- add (int .component.saveGraceSeconds) 60 -}}
{{- else -}}
{{- int .component.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{- define "nearfirst.serverCommand" -}}
[python, -m, uvicorn, "{{ .component.program.application }}", --factory, --host, "0.0.0.0", --port, "8000",
 --timeout-graceful-shutdown, "{{ sub (int .component.terminationGracePeriodSeconds) 15 }}", --log-level, warning]
{{- end -}}

{{/* Of a group pod 0 is the worker, the others follow it. */}}
{{- define "nearfirst.workerCommand" -}}
[python, -m,
 {{- if .component.nodes }} nearfirst_training.node,{{ else }} celery, -A, {{ .component.program.application }}, worker,{{ end }} --hostname, "{{ .component.id }}@%h",
 --loglevel, INFO, --without-gossip, --without-mingle]
{{- end -}}

{{/* A server that answers has loaded its model; until then only the startup probe asks. */}}
{{- define "nearfirst.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int .component.startSeconds) 4) 5 }}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: {{ .component.program.readiness }}, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* By the worker's last heartbeat in the registry; while the registry is away, nothing is held against the worker. Asking starts a Python. */}}
{{- define "nearfirst.workerProbes" -}}
startupProbe:
  exec: {command: [python, -m, nearfirst.queue.alive]}
  periodSeconds: 15
  timeoutSeconds: 30
  failureThreshold: 40
livenessProbe:
  exec: {command: [python, -m, nearfirst.queue.alive]}
  periodSeconds: 60
  timeoutSeconds: 30
  failureThreshold: 3
{{- end -}}

{{/* Takes the component. GPUs are limits; Kubernetes takes the same number as the request. */}}
{{- define "nearfirst.resources" -}}
{{- $limits := deepCopy (.resources.limits | default dict) -}}
{{- if .gpus -}}{{- $_ := set $limits .gpuResource (int .gpus) -}}{{- end -}}
requests: {{- toYaml .resources.requests | nindent 2 }}
limits: {{- toYaml $limits | nindent 2 }}
{{- end -}}

{{- define "nearfirst.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: scratch, mountPath: /var/lib/nearfirst}
- {name: shared, mountPath: /shared, readOnly: {{ not .component.writable }}}
{{- if .component.sharedMemory }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- range .component.volumes }}
- {name: {{ .name }}, mountPath: {{ .mountPath }}, readOnly: {{ .readOnly }}}
{{- end }}
{{- end -}}

{{- define "nearfirst.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: {{ .component.tmpSize }}}}
- {name: scratch, emptyDir: {sizeLimit: {{ .component.scratchSize }}}}
- {name: shared, persistentVolumeClaim: {claimName: {{ include "nearfirst.claimName" .root }}}}
{{- with .component.sharedMemory }}
- {name: shared-memory, emptyDir: {medium: Memory, sizeLimit: {{ . }}}}
{{- end }}
{{- range .component.volumes }}
- {name: {{ .name }}, persistentVolumeClaim: {claimName: {{ .existingClaim }}}}
{{- end }}
{{- end -}}
