{{/* Rules of NetworkPolicies. */}}

{{/* Takes the root context. */}}
{{- define "nearfirst.egressToDns" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .Values.networkPolicy.dns.namespace }}}
      podSelector:
        matchLabels: {{- toYaml .Values.networkPolicy.dns.podLabels | nindent 10 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* Takes {to: {cidrs}, port}. */}}
{{- define "nearfirst.egressTo" -}}
- ports:
    - {port: {{ int .port }}, protocol: TCP}
  {{- with .to.cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Takes a list of namespaces. */}}
{{- define "nearfirst.fromNamespaces" -}}
{{- range . }}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ . }}}
{{- end }}
{{- end -}}

{{/*
The pods of a group, among each other: the rendezvous, and ports that NCCL and gloo choose. Takes {root, component}.
*/}}
{{- define "nearfirst.groupPeers" -}}
- podSelector:
    matchLabels: {{- include "nearfirst.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- define "nearfirst.groupPorts" -}}
ports:
  - {port: 1024, endPort: 65535, protocol: TCP}
{{- end -}}

{{/* Everything that a component may connect to. Takes {root, component}. */}}
{{- define "nearfirst.egress" -}}
{{- $values := .root.Values -}}
{{- $policy := $values.networkPolicy -}}
{{- $component := .component -}}
{{- include "nearfirst.egressToDns" .root -}}
{{- if $component.program.registry }}
{{ include "nearfirst.egressTo" (dict "to" $policy.postgresql "port" $values.postgresql.port) }}
{{ include "nearfirst.egressTo" (dict "to" $policy.redis "port" $policy.redis.port) }}
{{- if eq $values.store.type "s3" }}
{{ include "nearfirst.egressTo" (dict "to" $policy.s3 "port" $policy.s3.port) }}
{{- end }}
{{- end }}
{{- if and $values.hub.enabled $component.program.hub }}
{{ include "nearfirst.egressTo" (dict "to" $policy.hub "port" $policy.hub.port) }}
{{- end }}
{{- if and $values.trackers.targets (eq $component.service "training") }}
{{ include "nearfirst.egressTo" (dict "to" $policy.trackers "port" $policy.trackers.port) }}
{{- end }}
{{- if $component.nodes }}
- to: {{- include "nearfirst.groupPeers" . | nindent 4 }}
  {{- include "nearfirst.groupPorts" . | nindent 2 }}
{{- end }}
{{- if $component.server }}
{{- $server := include "nearfirst.serverOf" . | fromYaml }}
- to:
    - podSelector:
        matchLabels: {{- include "nearfirst.selectorLabels" (dict "root" .root "component" $server) | nindent 10 }}
  ports:
    - {port: http, protocol: TCP}
{{- end }}
{{- end -}}

{{/*
Who may connect to a server: to the API the ingress controller, to the others their workers and `clientNamespaces`; to
all of them Prometheus. Takes {root, component}; empty: nobody.
*/}}
{{- define "nearfirst.ingressFrom" -}}
{{- $root := .root -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- $server := .component -}}
{{- include "nearfirst.fromNamespaces" (ternary $policy.ingressNamespaces $policy.clientNamespaces (eq $server.service "api")) }}
{{- if and $root.Values.monitoring.serviceMonitor.enabled $policy.monitoringNamespace }}
{{- include "nearfirst.fromNamespaces" (list $policy.monitoringNamespace) }}
{{- end }}
{{- range (include "nearfirst.components" $root | fromYaml).components }}
{{- if and .server (eq (printf "servers.%s" .server) $server.key) }}
- podSelector:
    matchLabels: {{- include "nearfirst.selectorLabels" (dict "root" $root "component" .) | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}
