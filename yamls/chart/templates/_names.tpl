{{- /*
Definitions that several templates use.
*/}}

{{- /* The namespace of all components: that of the release, unless `namespace` names another one. */}}
{{- define "kube-ovn.namespace" -}}{{- .Values.namespace | default .Release.Namespace -}}{{- end }}

{{- define "kube-ovn.image" -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default (printf "v%s" .Chart.AppVersion) -}}
{{- end }}

{{- /* Informational labels. Selectors use only `app`, as in kube-ovn, because they are immutable. */}}
{{- define "kube-ovn.labels" -}}
app.kubernetes.io/name: kube-ovn
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* The ranges of pods, join or services, IPv4 first. */}}
{{- define "kube-ovn.cidrs" -}}{{- join "," (compact (list .ipv4 .ipv6)) -}}{{- end }}

{{- /* The unspecified address. */}}
{{- define "kube-ovn.everywhere" -}}{{- if .Values.cidrs.pods.ipv4 -}}0.0.0.0{{- else -}}::{{- end -}}{{- end }}

{{- /* The address at which the kubelet probes a daemon on the host network. */}}
{{- define "kube-ovn.loopback" -}}{{- if .Values.cidrs.pods.ipv4 -}}127.0.0.1{{- else -}}::1{{- end -}}{{- end }}

{{- define "kube-ovn.logFlags" -}}
- --log-format={{ .Values.log.format }}
{{- with .Values.log.level }}
- --log-level={{ . }}
{{- end }}
{{- end }}

{{- /* The labels of the nodes on which ovn-central runs, as a label selector. */}}
{{- define "kube-ovn.databaseNodes" -}}
{{- $labels := list -}}
{{- range $key, $value := .Values.central.nodeSelector -}}{{- $labels = append $labels (printf "%s=%s" $key $value) -}}{{- end -}}
{{- join "," $labels -}}
{{- end }}

{{- /* `yes` if a node of the cluster has the labels of the nodes on which ovn-central runs. Empty without a cluster. */}}
{{- define "kube-ovn.labelled" -}}
{{- $found := "" -}}
{{- range (lookup "v1" "Node" "" "").items -}}
  {{- $node := . -}}
  {{- $selected := true -}}
  {{- range $key, $value := $.Values.central.nodeSelector -}}
    {{- $labels := $node.metadata.labels | default dict -}}
    {{- if or (not (hasKey $labels $key)) (ne (get $labels $key) $value) -}}{{- $selected = false -}}{{- end -}}
  {{- end -}}
  {{- if $selected -}}{{- $found = "yes" -}}{{- end -}}
{{- end -}}
{{- $found -}}
{{- end }}

{{- /* The endpoints of a database. The argument is a list of the addresses, the port, and the method. */}}
{{- define "kube-ovn.endpoints" -}}
{{- $endpoints := list -}}
{{- range $host := index . 0 -}}
  {{- $endpoints = append $endpoints (printf "%s:[%s]:%d" (index $ 2) $host (int (index $ 1))) -}}
{{- end -}}
{{- join "," $endpoints -}}
{{- end }}

{{- /* The address of the API server, for clusters where the Service `kubernetes` is not available in time. */}}
{{- define "kube-ovn.apiServer" -}}
{{- with .Values.apiServer.host -}}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{- define "kube-ovn.nodeName" -}}
- name: KUBE_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{- define "kube-ovn.podNamespace" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}
{{- define "kube-ovn.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* `yes` if tunnel.iface is the name of one interface and not an expression. The userspace datapath makes this
interface a port of its bridge br-phy, which takes over its addresses. The kernel datapath does not change it. */}}
{{- define "kube-ovn.oneIface" -}}{{- if regexMatch "^[A-Za-z0-9._-]+$" .Values.tunnel.iface -}}yes{{- end -}}{{- end }}

{{- /* The annotations of a workload's pods. The argument is its values. */}}
{{- define "kube-ovn.podAnnotations" -}}
{{- with .annotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* On which nodes the pods of a workload run, and as whom. The argument is its values. */}}
{{- define "kube-ovn.placement" -}}
priorityClassName: {{ .priorityClassName }}
nodeSelector:
  {{- toYaml (merge (dict "kubernetes.io/os" "linux") .nodeSelector) | nindent 2 }}
tolerations:
  {{- toYaml .tolerations | nindent 2 }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The arguments of a workload: its own, and then its extraArgs. A flag cannot be in both. The argument is a list of the
workload's name, its values, and its own arguments. */}}
{{- define "kube-ovn.args" -}}
{{- $name := index . 0 -}}{{- $own := index . 2 -}}
{{- $own -}}
{{- range $at, $argument := (index . 1).extraArgs -}}
  {{- $flag := splitList "=" $argument | first -}}
  {{- if regexMatch (printf "(?m)^- \"?%s(=|\"?$)" $flag) $own -}}
    {{- fail (printf "%s.extraArgs[%d]: %s is among the arguments already, by a value of its own" $name $at $flag) -}}
  {{- end }}
- {{ $argument | quote }}
{{- end }}
{{- end }}

{{- /* The security context of a container that changes the node. One that is privileged has no use for the rest, and the API server
refuses some of it. */}}
{{- define "kube-ovn.nodeSecurity" -}}
{{- if .privileged }}
{{- pick . "privileged" "runAsUser" "seLinuxOptions" | toYaml }}
{{- else }}
{{- toYaml . }}
{{- end }}
{{- end }}
