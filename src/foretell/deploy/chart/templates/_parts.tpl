{{- /*
What several templates share. All templates keep to the few words of Helm's language that
`foretell k8s render` knows, too (src/foretell/deploy/templating.py).
*/ -}}

{{- define "foretell.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}

{{- define "foretell.selector" -}}
app.kubernetes.io/name: foretell
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* Helm itself says who manages an object, when it installs one. */ -}}
{{- define "foretell.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "foretell.selector" . }}
{{ include "foretell.version" . }}
app.kubernetes.io/part-of: foretell
{{- end -}}

{{- define "foretell.version" -}}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimSuffix "-" | quote }}
{{- end -}}

{{- /* Those of pods: with the chart's version they would be replaced for nothing. */ -}}
{{- define "foretell.podLabels" -}}
{{ include "foretell.selector" . }}
{{ include "foretell.version" . }}
{{- if .Values.podLabels }}
{{ toYaml .Values.podLabels }}
{{- end }}
{{- end -}}

{{- define "foretell.image" -}}
{{- $repository := required "image.repository is missing: name the image that `foretell image` made" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ required "image.tag is missing: name a tag, or image.digest" .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "foretell.account" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "foretell.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "foretell.claim" -}}
{{- if .Values.models.claim.create -}}
{{ .Values.models.claim.name | default (printf "%s-models" (include "foretell.name" .)) }}
{{- else -}}
{{ required "models.claim.name is missing: name the claim that has the models" .Values.models.claim.name }}
{{- end -}}
{{- end -}}

{{- define "foretell.toml" -}}
drain_grace_s = {{ toJson .Values.drain.graceSeconds }}
shutdown_timeout_s = {{ toJson .Values.drain.timeoutSeconds }}
metrics_bind = "0.0.0.0:9090"
workers = {{ toJson .Values.server.workers }}
{{- if .Values.tls.secret }}
certfile = "/tls/tls.crt"
keyfile = "/tls/tls.key"
{{- end }}
{{- if .Values.access.keysSecret }}
keys_file = "/keys/keys.toml"
{{- end }}
{{- if .Values.access.jwks }}
{{- $issuer := required "settings.jwt_issuer is missing: access.jwks has its keys" .Values.settings.jwt_issuer }}
{{- $audience := required "settings.jwt_audience is missing: what tokens of access.jwks are for" .Values.settings.jwt_audience }}
jwt_jwks = {{ ternary .Values.access.jwks "/jwks/jwks.json" (hasPrefix "https://" .Values.access.jwks) | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- range $model, $cache := .Values.caches }}
[models.{{ toJson $model }}.cache]
{{- range $name, $value := $cache }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "foretell.batchToml" -}}
[batch]
{{- range $name, $value := .Values.batch.settings }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end -}}

{{- define "foretell.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "foretell.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* What every pod says of who runs it, and where. */ -}}
{{- define "foretell.pod" -}}
serviceAccountName: {{ include "foretell.account" . }}
automountServiceAccountToken: false
# Variables for every Service of the namespace would be settings that nobody has set.
enableServiceLinks: false
securityContext:
  {{- include "foretell.podSecurity" . | nindent 2 }}
{{- if .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range $name := .Values.image.pullSecrets }}
  - name: {{ $name | quote }}
  {{- end }}
{{- end }}
{{- if .Values.priorityClassName }}
priorityClassName: {{ .Values.priorityClassName | quote }}
{{- end }}
{{- if .Values.nodeSelector }}
nodeSelector:
  {{- toYaml .Values.nodeSelector | nindent 2 }}
{{- end }}
{{- if .Values.tolerations }}
tolerations:
  {{- toYaml .Values.tolerations | nindent 2 }}
{{- end }}
{{- if .Values.affinity }}
affinity:
  {{- toYaml .Values.affinity | nindent 2 }}
{{- end }}
{{- if eq .Values.models.source "store" }}
initContainers:
  - name: models
    image: {{ include "foretell.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command:
      - python
      - -c
      - |
        import sys

        import fsspec

        store, path = fsspec.core.url_to_fs(sys.argv[1])
        store.get(path.rstrip("/") + "/", sys.argv[2], recursive=True)
      - {{ required "models.store.url is missing: name the repository, as in s3://bucket/models" .Values.models.store.url | quote }}
      - {{ .Values.models.path | quote }}
    {{- if .Values.secret }}
    envFrom:
      - secretRef:
          name: {{ .Values.secret | quote }}
    {{- end }}
    {{- if .Values.extraEnv }}
    env:
      {{- toYaml .Values.extraEnv | nindent 6 }}
    {{- end }}
    resources:
      requests:
        cpu: 100m
        memory: 256Mi
      limits:
        memory: 256Mi
    securityContext:
      {{- include "foretell.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - name: models
        mountPath: {{ .Values.models.path | quote }}
      - name: tmp
        mountPath: /tmp
{{- end }}
{{- end -}}

{{- define "foretell.mounts" -}}
- name: config
  mountPath: /app
  readOnly: true
{{ include "foretell.modelMounts" . }}
{{- end -}}

{{- define "foretell.modelMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if ne .Values.models.source "image" }}
- name: models
  mountPath: {{ .Values.models.path | quote }}
  readOnly: true
  {{- if and (eq .Values.models.source "claim") .Values.models.claim.subPath }}
  subPath: {{ .Values.models.claim.subPath | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "foretell.modelVolume" -}}
{{- if eq .Values.models.source "claim" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ include "foretell.claim" . | quote }}
    readOnly: true
{{- end }}
{{- if eq .Values.models.source "store" }}
- name: models
  emptyDir:
    sizeLimit: {{ .Values.models.store.size | quote }}
{{- end }}
{{- end -}}
