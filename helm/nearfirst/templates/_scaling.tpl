{{/*
SQL of how many workers of a component the registry's unfinished runs want: those of its kinds that wait for a worker,
and those that its own pods have under way. A run that waits for other runs wants none yet. A worker that has a run must
not be scaled away because the queue is empty, and `lease_owner` begins with its pod's name.

Takes {root, component}.
*/}}
{{- define "nearfirst.workersWanted" -}}
{{- $kinds := list -}}
{{- range .component.program.kinds -}}{{- $kinds = append $kinds (squote .) -}}{{- end -}}
SELECT CEIL(ROUND(COALESCE(SUM({{ include "nearfirst.shareOfWorker" . }}), 0), 6))::int
 FROM runs AS run
 WHERE run.kind IN ({{ join ", " $kinds }})
 AND ((run.state = 'queued'{{ include "nearfirst.ownQueue" . }}
 AND NOT EXISTS (SELECT 1 FROM run_dependencies AS link JOIN runs AS other ON other.id = link.depends_on
 WHERE link.run_id = run.id AND other.state <> 'succeeded'))
 OR (run.state IN ('running', 'cancelling')
 AND run.lease_owner ~ '^{{ .component.name }}-[0-9a-z]+-[0-9a-z]+/'))
{{- end -}}

{{/* Which part of a worker one run takes: a training worker of 8 GPUs has 2 jobs of 3 GPUs at a time. */}}
{{- define "nearfirst.shareOfWorker" -}}
{{- if ne .component.service "training" -}}
1.0
{{- else if .component.gpus -}}
1.0 / ({{ int .component.gpus }} / GREATEST(run.num_gpus, 1))
{{- else -}}
1.0 / {{ int .component.cpuJobs }}
{{- end -}}
{{- end -}}

{{/* Of training: a waiting job wants a worker of the smallest pool that has enough GPUs. Groups aren't scaled. */}}
{{- define "nearfirst.ownQueue" -}}
{{- if eq .component.service "training" -}}
{{- $gpus := int .component.gpus -}}
{{- $smaller := -1 -}}
{{- range (include "nearfirst.components" .root | fromYaml).components -}}
{{- if and (eq .role "worker") (eq .service "training") (not .nodes) (lt (int .gpus) $gpus) -}}
{{- $smaller = max $smaller (int .gpus) -}}
{{- end -}}
{{- end -}}
{{- printf " AND run.num_gpus BETWEEN %d AND %d" (ternary 0 (add1 (max 0 $smaller)) (eq $gpus 0)) $gpus -}}
{{- end -}}
{{- end -}}
