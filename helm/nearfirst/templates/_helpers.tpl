{{/* Names and labels. */}}

{{- define "nearfirst.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- end -}}

{{- define "nearfirst.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: nearfirst
{{ include "nearfirst.releaseLabels" . }}
{{- end -}}

{{- define "nearfirst.releaseLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Takes {root, component}. */}}
{{- define "nearfirst.selectorLabels" -}}
{{ include "nearfirst.releaseLabels" .root }}
app.kubernetes.io/component: {{ .component.id }}
{{- end -}}

{{/* Takes {root, component}. */}}
{{- define "nearfirst.componentLabels" -}}
{{ include "nearfirst.labels" .root }}
app.kubernetes.io/component: {{ .component.id }}
{{- end -}}

{{/* Takes {root, image: family, gpus}. */}}
{{- define "nearfirst.image" -}}
{{- $images := .root.Values.images -}}
{{- $key := .image -}}
{{- if and .gpus (ne .image "core") -}}{{- $key = printf "%sCuda" .image -}}{{- end -}}
{{- if $images.registry -}}{{- $images.registry -}}/{{- end -}}
{{- index $images.repositories $key -}}:{{- default .root.Chart.AppVersion $images.tag -}}
{{- end -}}

{{/*
Every component of the release, as YAML of {components: [...]}: `podDefaults`, over them what `servers`, `workers` or
`multiNode` say, over it what files/services.yaml says of its service, and

  id         its name among all components, and its label
  name       of its objects
  role       server | worker
  nodes      of a group of training workers: its pods; else absent
  writable   whether it mounts the shared folder for writing
*/}}
{{- define "nearfirst.components" -}}
{{- $root := . -}}
{{- $services := .Files.Get "files/services.yaml" | fromYaml -}}
{{- $components := list -}}
{{- $groups := dict -}}
{{- range $name, $given := $root.Values.multiNode -}}
{{- if $given -}}{{- $_ := set $groups $name (merge (dict "service" "training") $given) -}}{{- end -}}
{{- end -}}
{{- range $key, $members := dict "servers" $root.Values.servers "workers" $root.Values.workers "multiNode" $groups -}}
{{- $role := ternary "server" "worker" (eq $key "servers") -}}
{{- range $name, $given := $members -}}
{{- if $given -}}
{{- $known := index $services (printf "%ss" $role) $given.service -}}
{{- $id := get (dict "servers" $name "workers" (printf "%s-worker" $name) "multiNode" (printf "%s-group" $name)) $key -}}
{{- $defaults := deepCopy $root.Values.podDefaults -}}
{{- if eq $role "server" -}}
{{- $_ := set $defaults "startSeconds" 600 -}}
{{- $_ := set $defaults "autoscaling" (dict "enabled" false) -}}
{{- else if eq $given.service "training" -}}
{{- $_ := set $defaults "saveGraceSeconds" 240 -}}
{{- $_ := set $defaults "cpuJobs" 1 -}}
{{- end -}}
{{- $component := mergeOverwrite $defaults (deepCopy $given) -}}
{{- $_ := set $component "program" $known -}}
{{- $_ := set $component "key" (printf "%s.%s" $key $name) -}}
{{- $_ := set $component "id" $id -}}
{{- $_ := set $component "name" (printf "%s-%s" (include "nearfirst.fullname" $root) $id) -}}
{{- $_ := set $component "role" $role -}}
{{- $storesThere := and (has "store" $known.writes) (eq $root.Values.store.type "volume") -}}
{{- $downloads := and $known.hub $root.Values.hub.enabled -}}
{{- $_ := set $component "writable" (or (has "runs" $known.writes) $storesThere $downloads) -}}
{{- $components = append $components $component -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "components" $components | toYaml -}}
{{- end -}}

{{/*
Name of a group's Job. What a Job runs can't be changed, so a name stands for one pod template: after an upgrade that
changes it, the old Job goes and a new one comes. Takes {root, component}.
*/}}
{{- define "nearfirst.groupName" -}}
{{- $unnamed := merge (dict "groupName" "") .component -}}
{{- printf "%s-%s" .component.name (include "nearfirst.pod" (dict "root" .root "component" $unnamed) | sha256sum | trunc 8) -}}
{{- end -}}

{{/* The server component that a worker names, as YAML. Takes {root, component}. */}}
{{- define "nearfirst.serverOf" -}}
{{- $wanted := .component.server -}}
{{- range (include "nearfirst.components" .root | fromYaml).components -}}
{{- if and (eq .role "server") (eq .key (printf "servers.%s" $wanted)) -}}{{- toYaml . -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nearfirst.claimName" -}}
{{- default (printf "%s-shared" (include "nearfirst.fullname" .)) .Values.storage.existingClaim -}}
{{- end -}}
