{{/* The name of everything in the release; the release's own name if it says roadstead already. */}}
{{- define "roadstead.fullname" -}}
{{- if contains "roadstead" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-roadstead" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "roadstead.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "roadstead.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed with serviceAccount.create=false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "roadstead.selector" -}}
app.kubernetes.io/name: roadstead
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "roadstead.labels" -}}
{{ include "roadstead.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "roadstead.routerImage" -}}
{{- if .Values.hosts.routerImage -}}
{{- .Values.hosts.routerImage -}}
{{- else if .Values.image.digest -}}
{{- include "roadstead.image" . -}}
{{- else -}}
{{- fail "hosts.routerImage is needed with hosts.caddyImage: name the operator's image with its digest, or pin it with image.digest" -}}
{{- end -}}
{{- end -}}

{{- define "roadstead.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
