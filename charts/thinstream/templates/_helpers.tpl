{{- define "thinstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Leaves 15 characters for the suffixes below. */}}
{{- define "thinstream.fullname" -}}
{{- $name := include "thinstream.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Names of what has no namespace: two releases may have the same name in two namespaces. */}}
{{- define "thinstream.clusterName" -}}
{{- $full := include "thinstream.fullname" . -}}
{{- if eq $full .Release.Namespace -}}
{{- $full -}}
{{- else -}}
{{- printf "%s:%s" .Release.Namespace $full -}}
{{- end -}}
{{- end -}}

{{- define "thinstream.selectorLabels" -}}
app.kubernetes.io/name: {{ include "thinstream.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "thinstream.labels" -}}
{{ include "thinstream.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "thinstream.serviceAccountName" -}}
{{- default (include "thinstream.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "thinstream.agentServiceAccountName" -}}
{{- printf "%s-agent" (include "thinstream.fullname" .) -}}
{{- end -}}

{{- define "thinstream.image" -}}
{{- with .Values.image -}}
{{- $_ := required "image.repository is empty: no image is published, so build one from the Dockerfile, push it, and name it here" .repository -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "thinstream.priorityClassName" -}}
{{- default (printf "%s-agent" (include "thinstream.fullname" .)) .Values.priorityClass.name -}}
{{- end -}}

{{/* What the controller reads: src/api/controller-config.ts has the schema. */}}
{{- define "thinstream.config" -}}
{{- $agent := .Values.agent -}}
{{- $priority := $agent.priorityClassName -}}
{{- if and (not $priority) .Values.priorityClass.create -}}
{{- $priority = include "thinstream.priorityClassName" . -}}
{{- end -}}
{{- $config := dict
  "version" 1
  "namespace" .Release.Namespace
  "image" (include "thinstream.image" .)
  "imagePullPolicy" .Values.image.pullPolicy
  "imagePullSecrets" .Values.imagePullSecrets
  "kubeletRoot" .Values.kubeletRoot
  "maxAgents" (int .Values.maxAgents)
  "syncSeconds" (int .Values.syncSeconds)
  "agentPort" (int $agent.port)
  "agent" (dict
    "priorityClassName" (ternary nil $priority (empty $priority))
    "serviceAccount" (include "thinstream.agentServiceAccountName" .)
    "tolerations" $agent.tolerations
    "resources" $agent.resources
    "holderResources" $agent.holderResources
    "selinuxType" (ternary nil $agent.selinuxType (empty $agent.selinuxType)))
-}}
{{- if .Values.endpoints.enabled -}}
{{- $_ := set $config "metricsPort" (int .Values.endpoints.port) -}}
{{- end -}}
{{- toPrettyJson $config -}}
{{- end -}}

{{/* Meets the "restricted" Pod Security Standard. 65532 is the image's own user. */}}
{{- define "thinstream.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "thinstream.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Before install too: CRDs outlive a release, and the next one may be newer. A Job that failed stays to be looked at. */}}
{{- define "thinstream.crdHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
