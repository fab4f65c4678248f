{{/* What the server and `db upgrade` have in common. */}}
{{- define "weighbridge.container" -}}
env:
  - name: WEIGHBRIDGE_ADMIN_TOKEN
    valueFrom:
      secretKeyRef:
        name: {{ .Values.existingSecret }}
        key: admin-token
        optional: true
  {{- with .Values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - { name: data, mountPath: /var/lib/weighbridge }
  - { name: config, mountPath: /etc/weighbridge, readOnly: true }
  - { name: secrets, mountPath: /run/secrets/weighbridge, readOnly: true }
  - { name: tmp, mountPath: /tmp }
{{- end -}}

{{/* What waits for the next start (docs/configuration.md, "While the server runs"): all but what is known to be taken before. */}}
{{- define "weighbridge.restarts" -}}
{{- $server := .Values.config.server | default dict -}}
{{- $limits := .Values.config.limits | default dict -}}
{{- $logs := .Values.config.logs | default dict -}}
{{- $waits := omit .Values.config "server" "limits" "gateway" "images" "events" "logs" "tracing" "upstreams" "models" "prices" -}}
{{- list $waits (get $server "workers") (get $server "tls_cert" | not) (get $limits "on_redis_down") (get $logs "format") .Values.extraToml | toJson -}}
{{- end -}}
