{{/* Environment variables. Secrets are references, never values. All of these take {root, component}. */}}

{{- define "nearfirst.env" -}}
{{- $values := .root.Values -}}
{{- $component := .component -}}
{{- $program := $component.program -}}
- {name: HOME, value: /var/lib/nearfirst}
- {name: NEARFIRST_HOME, value: /var/lib/nearfirst}
- {name: NEARFIRST_LOG_FORMAT, value: {{ $values.settings.logFormat }}}
- {name: NEARFIRST_RUNS_DIR, value: /shared/runs}
- {name: NEARFIRST_DATA_ROOTS, value: {{ include "nearfirst.dataRoots" . | quote }}}
{{- if $program.registry }}
{{ include "nearfirst.registryEnv" .root }}
- {name: NEARFIRST_UNSERVABLE_S, value: {{ $values.settings.unservableSeconds | toString | quote }}}
- name: NEARFIRST_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ $values.redis.existingSecret }}, key: {{ $values.redis.urlKey }}}}
{{ include "nearfirst.storeEnv" .root }}
{{- end }}
{{- if eq $component.role "server" }}
- {name: NEARFIRST_METRICS_NEED_KEY, value: "true"}
- name: NEARFIRST_API_KEYS
  valueFrom: {secretKeyRef: {name: {{ $values.auth.existingSecret }}, key: {{ $values.auth.keysKey }}}}
{{- end }}
{{- if and (eq $component.service "api") $values.ingress.trustedProxies }}
- {name: FORWARDED_ALLOW_IPS, value: {{ join "," $values.ingress.trustedProxies | quote }}}
{{- end }}
{{- if and (eq $component.role "worker") $values.monitoring.podMonitor.enabled }}
- {name: NEARFIRST_WORKER_METRICS_PORT, value: {{ $values.monitoring.podMonitor.port | toString | quote }}}
{{- end }}
{{- if and $program.rewardModel $values.rewardModel }}
- {name: NEARFIRST_REWARD_MODEL, value: {{ $values.rewardModel | quote }}}
{{- end }}
{{- if eq $component.service "training" }}
{{ include "nearfirst.trainingEnv" . }}
{{- end }}
{{- if $component.server }}
{{ include "nearfirst.serverEnv" . }}
{{- end }}
{{ include "nearfirst.hubEnv" . }}
{{- range $name, $value := merge (deepCopy $component.env) $values.settings.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* libpq's own variables, so that no password has to be put into a URL. Takes the root context. */}}
{{- define "nearfirst.registryEnv" -}}
{{- with .Values.postgresql -}}
- {name: NEARFIRST_DATABASE_URL, value: "postgresql+psycopg://"}
- {name: PGHOST, value: {{ .host | quote }}}
- {name: PGPORT, value: {{ .port | toString | quote }}}
- {name: PGDATABASE, value: {{ .database | quote }}}
- {name: PGUSER, value: {{ .user | quote }}}
- {name: PGSSLMODE, value: {{ .sslmode }}}
{{- if eq .sslmode "verify-full" }}
- {name: PGSSLROOTCERT, value: system}
{{- end }}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .passwordKey }}}}
{{- end -}}
{{- end -}}

{{/* Takes the root context. */}}
{{- define "nearfirst.storeEnv" -}}
{{- $store := .Values.store -}}
{{- if eq $store.type "volume" -}}
- {name: NEARFIRST_STORE_URL, value: /shared/store}
{{- else -}}
- {name: NEARFIRST_STORE_URL, value: {{ printf "s3://%s" (clean (printf "%s/%s" $store.s3.bucket $store.s3.prefix)) | quote }}}
{{- with $store.s3.endpointUrl }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with $store.s3.region }}
- {name: AWS_DEFAULT_REGION, value: {{ . | quote }}}
{{- end }}
{{- if eq $store.s3.credentials "secret" }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ $store.s3.existingSecret }}, key: {{ $store.s3.accessKeyIdKey }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ $store.s3.existingSecret }}, key: {{ $store.s3.secretAccessKeyKey }}}}
{{- end }}
{{- end -}}
{{- end -}}

{{/* JSON of the folders that requests may name files in. */}}
{{- define "nearfirst.dataRoots" -}}
{{- $roots := list "/shared/models" "/shared/data" "/shared/runs" -}}
{{- if .root.Values.hub.enabled -}}{{- $roots = append $roots "/shared/hub" -}}{{- end -}}
{{- range .component.volumes -}}{{- $roots = append $roots .mountPath -}}{{- end -}}
{{- toJson $roots -}}
{{- end -}}

{{/* GPUs by number: the device plugin shows a container its own, counted from 0. */}}
{{- define "nearfirst.trainingEnv" -}}
{{- $gpus := list -}}
{{- range until (int .component.gpus) -}}{{- $gpus = append $gpus (toString .) -}}{{- end -}}
- {name: NEARFIRST_GPUS, value: {{ join "," $gpus | quote }}}
- {name: NEARFIRST_CPU_JOBS, value: {{ ternary 0 (int .component.cpuJobs) (gt (int .component.gpus) 0) | toString | quote }}}
- {name: NEARFIRST_SAVE_GRACE_S, value: {{ .component.saveGraceSeconds | toString | quote }}}
{{- if .component.nodes }}
- {name: NEARFIRST_NODES, value: {{ .component.nodes | toString | quote }}}
- {name: NEARFIRST_NODE_GROUP, value: {{ .component.groupName | quote }}}
- {name: NEARFIRST_RENDEZVOUS, value: "{{ .component.groupName }}-0.{{ .component.name }}:29400"}
{{- end }}
{{- with .root.Values.trackers.targets }}
- {name: NEARFIRST_TRACKERS, value: {{ . | quote }}}
{{- end }}
{{- end -}}

{{- define "nearfirst.serverEnv" -}}
{{- $server := include "nearfirst.serverOf" . | fromYaml -}}
- {name: {{ .component.program.server.url }}, value: {{ printf "http://%s:80" $server.name | quote }}}
- name: {{ .component.program.server.key }}
  valueFrom: {secretKeyRef: {name: {{ .root.Values.auth.existingSecret }}, key: {{ .root.Values.auth.internalKey }}}}
{{- end -}}

{{- define "nearfirst.hubEnv" -}}
{{- $hub := .root.Values.hub -}}
{{- if and .component.program.hub $hub.enabled -}}
- {name: HF_HOME, value: /shared/hub}
{{- if $hub.existingSecret }}
- name: HF_TOKEN
  valueFrom: {secretKeyRef: {name: {{ $hub.existingSecret }}, key: {{ $hub.tokenKey }}}}
{{- end }}
{{- else -}}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end -}}
{{- end -}}
