{{/* weighbridge.toml. A value of JSON is one of TOML; but for tables, which are written inline. */}}
{{- define "weighbridge.value" -}}
{{- if kindIs "map" . -}}
{ {{- $comma := "" -}}
{{- range $name, $value := . -}}
{{ $comma }} {{ $name | quote }} = {{ include "weighbridge.value" $value }}{{- $comma = "," -}}
{{- end }} }
{{- else if kindIs "slice" . -}}
[{{- range $index, $value := . -}}{{ if $index }}, {{ end }}{{ include "weighbridge.value" $value }}{{- end -}}]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{- define "weighbridge.toml" -}}
{{- range $name, $section := .Values.config }}
{{- if kindIs "slice" $section }}
{{- range $entry := $section }}
[[{{ $name }}]]
{{- range $setting, $value := $entry }}
{{- if not (kindIs "invalid" $value) }}
{{ $setting }} = {{ include "weighbridge.value" $value }}
{{- end }}
{{- end }}
{{ end }}
{{- else if $section }}
[{{ $name }}]
{{- range $setting, $value := $section }}
{{- if not (kindIs "invalid" $value) }}
{{ $setting }} = {{ include "weighbridge.value" $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}
{{- .Values.extraToml }}
{{- end -}}

{{/* How long a pod may take to go, in seconds: its calls in flight may finish, and its ledger is shipped. */}}
{{- define "weighbridge.grace" -}}
{{- $server := .Values.config.server | default dict -}}
{{- $drain := dig "drain_seconds" 1200 $server -}}
{{- $lame := dig "lame_duck_seconds" 10 $server -}}
{{- add (ceil $drain | int) (ceil $lame | int) (int .Values.preStopSeconds) 30 -}}
{{- end -}}

{{/* Values that can't be right together. */}}
{{- define "weighbridge.check" -}}
{{- $server := .Values.config.server | default dict -}}
{{- $storage := .Values.config.storage | default dict -}}
{{- if and (gt (int (get $server "workers")) 1) (not (get $storage "redis_url")) -}}
{{- fail (printf "config.server.workers is %d, and config.storage.redis_url is not set: no pod would start, since workers count limits together" (int $server.workers)) -}}
{{- end -}}
{{- if ne (empty (get $server "tls_cert")) (empty (get $server "tls_key")) -}}
{{- fail "config.server.tls_cert and config.server.tls_key go together: with one of them, no pod would start" -}}
{{- end -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- range $setting := list "redis_url" "database_url" -}}
{{- if not (get $storage $setting) -}}
{{- fail (printf "replicaCount is %d, and config.storage.%s is not set: each pod would count limits, and bill, by itself" (int $.Values.replicaCount) $setting) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
