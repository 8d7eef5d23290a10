{{- define "lockstep.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "lockstep.selector" -}}
app.kubernetes.io/name: lockstep
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lockstep.labels" -}}
{{ include "lockstep.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{/* The name by which everybody dials the coordinator: that of its headless service, so that it reaches itself as well. */}}
{{- define "lockstep.coordinatorHost" -}}
{{ include "lockstep.fullname" . }}-coordinator.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "lockstep.listenHost" -}}
{{ if contains ":" .Values.ports.listen }}[{{ .Values.ports.listen }}]{{ else }}{{ .Values.ports.listen }}{{ end }}
{{- end }}

{{/* NATS takes the first port of the coordinator's two. */}}
{{- define "lockstep.coordinatorAddress" -}}
{{ include "lockstep.coordinatorHost" . }}:{{ add .Values.ports.first 1 }}
{{- end }}

{{- define "lockstep.ownCertificates" -}}
{{- $names := .Values.security.certificates }}
{{- if and $names.coordinator $names.workers }}true
{{- else if or $names.coordinator $names.workers }}
{{- fail "security.certificates: coordinator and workers each need a Secret of their own; a worker with the coordinator's certificate could steer the run." }}
{{- end }}
{{- end }}

{{- define "lockstep.securitySecret" -}}
{{ default (printf "%s-security" (include "lockstep.fullname" .)) .Values.security.existingSecret }}
{{- end }}

{{/* Workers of one pod: one for each of its GPUs, or of its cores by `devices: cpu:N`. */}}
{{- define "lockstep.workersOfPod" -}}
{{- if gt (int .Values.workers.gpus) 0 }}{{ int .Values.workers.gpus }}
{{- else if hasPrefix "cpu:" .Values.workers.devices }}{{ trimPrefix "cpu:" .Values.workers.devices | int }}
{{- else }}1{{ end }}
{{- end }}

{{- define "lockstep.devices" -}}
{{- if .Values.workers.devices }}{{ .Values.workers.devices }}{{ else if gt (int .Values.workers.gpus) 0 }}all{{ end }}
{{- end }}

{{- define "lockstep.image" -}}
{{ .Values.image.repository }}:{{ default (printf "%s-cpu" .Chart.AppVersion) .Values.image.tag }}
{{- end }}

{{- define "lockstep.workerImage" -}}
{{- $flavour := ternary "cuda12" "cpu" (gt (int .Values.workers.gpus) 0) }}
{{- $tag := default (printf "%s-%s" .Chart.AppVersion $flavour) .Values.image.tag }}
{{- default (printf "%s:%s" .Values.image.repository $tag) .Values.workers.image }}
{{- end }}

{{/* Workers that the run waits for before its first step. */}}
{{- define "lockstep.expectedWorkers" -}}
{{- $pods := ternary .Values.autoscaling.minReplicas .Values.workers.replicas .Values.autoscaling.enabled }}
{{- max 1 (mul $pods (include "lockstep.workersOfPod" . | int)) }}
{{- end }}

{{- define "lockstep.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "lockstep.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* A Secret, of which the container sees these keys alone. Takes a list: name of the volume, of the Secret, keys. */}}
{{- define "lockstep.secretVolume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 0440
    items:
      {{- range index . 2 }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
{{- end }}

{{- define "lockstep.certificateArgs" -}}
- --tls-ca=/etc/lockstep/tls/ca.crt
- --tls-cert=/etc/lockstep/tls/tls.crt
- --tls-key=/etc/lockstep/tls/tls.key
{{- end }}
