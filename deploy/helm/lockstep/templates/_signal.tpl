{{/*
How many workers the run wants, as one number of PromQL. More workers help only where the largest range of shards gets
shorter: the useful numbers are ceil(V/k) for k = V, ..., 2, 1 shards of the largest range. One of them up where the workers compute
most of their time, one down where they wait for each other most of it, none in between; and at least as many as a deadline takes,
rounded up to a useful number. Zero once nobody has coordinated for a while.
*/}}
{{- define "lockstep.wantedWorkers" -}}
{{- $s := default (printf "namespace=%q,release=%q" .Release.Namespace .Release.Name) .Values.autoscaling.selector }}
{{- with .Values.autoscaling }}
{{- $shards := printf "max(lockstep_shards{%s})" $s }}
{{- $present := printf "sum(lockstep_members{state=~\"computing|joining|standby|loading\",%s})" $s }}
{{- $computing := printf "sum(lockstep_members{state=\"computing\",%s})" $s }}
{{- $largest := printf "ceil(%s / %s)" $shards $computing }}
{{- $efficiency := printf "(sum(rate(lockstep_phase_seconds_total{phase=\"compute\",%s}[%s])) / %s)" $s .window $computing }}
{{- $up := printf "ceil(%s / clamp_min(%s - 1, 1)) and %s > %v" $shards $largest $efficiency .scaleUpAbove }}
{{- $fewer := printf "ceil(%s / clamp_min(%s - 1, 1))" $shards $computing }}
{{- $down := printf "ceil(%s / %s) and %s < %v" $shards $fewer $efficiency .scaleDownBelow }}
{{- $running := printf "(max(lockstep_phase{phase=\"running\",%s}) == 1)" $s }}
{{- $step := printf "((%s) or (%s) or %s)" $up $down $present }}
{{- if gt (int64 .deadline) 0 }}
{{- $left := printf "(max(lockstep_planned_steps{%s}) - max(lockstep_step{%s}))" $s $s }}
{{- $rate := printf "(sum(rate(lockstep_steps_total{%s}[%s])) / %s > 0)" $s .window $computing }}
{{- $need := printf "%s / %s / clamp_min(vector(%d - time()), 1)" $left $rate (int64 .deadline) }}
{{- $useful := printf "ceil(%s / clamp_min(floor(%s / (%s)), 1))" $shards $shards $need }}
{{- $step = printf "(%s > %s or %s)" $useful $step $step }}
{{- end }}
{{- /* Where it does not run (yet): whoever is there. */}}
clamp_min(({{ $step }} and {{ $running }}) or {{ $present }}, {{ max 1 (int .minReplicas) }})
or max_over_time({{ $computing }}[10m:1m])
{{- end }}
{{- end }}
