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

{{- /* Internal addresses of the nodes on which ovn-central may run, looked up in the cluster, comma-separated. Empty
without a cluster. */}}
{{- define "kube-ovn.labelled" -}}
{{- $found := list -}}
{{- range (lookup "v1" "Node" "" "").items -}}
  {{- $node := . -}}
  {{- $selected := true -}}
  {{- range $key, $value := $.Values.central.nodeSelector -}}
    {{- if ne (get ($node.metadata.labels | default dict) $key) $value -}}{{- $selected = false -}}{{- end -}}
  {{- end -}}
  {{- if $selected -}}
    {{- $internal := list -}}
    {{- range $node.status.addresses -}}{{- if eq .type "InternalIP" -}}{{- $internal = append $internal .address -}}{{- end -}}{{- end -}}
    {{- with first $internal -}}{{- $found = append $found . -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- join "," (sortAlpha $found) -}}
{{- end }}

{{- /* Addresses of the nodes on which ovn-central may run, comma-separated. Empty if they are unknown. The
controllers then use the Services, whose addresses the kubelet sets as environment variables.

Node addresses need only the nodes' network. A Service needs kube-proxy or a replacement, which runs on the host network
and does not need the pod network, so there is no circular dependency. DNS would be a circular dependency. Services come
first in the manifest, so the kubelet knows them before the pods. If it does not, the container exits with an error that
names the missing variable, and succeeds after a restart. */}}
{{- define "kube-ovn.central" -}}
{{- if .Values.central.addresses -}}
  {{- join "," .Values.central.addresses -}}
{{- else -}}
  {{- include "kube-ovn.labelled" . -}}
{{- end -}}
{{- end }}

{{- /* The endpoints of the northbound or the southbound database. The brackets must contain an address, so the programs
refuse a variable that the kubelet did not expand. */}}
{{- define "kube-ovn.northbound" -}}{{- include "kube-ovn.endpoints" (list . "$(OVN_NB_SERVICE_HOST)" 6641) -}}{{- end }}
{{- define "kube-ovn.southbound" -}}{{- include "kube-ovn.endpoints" (list . "$(OVN_SB_SERVICE_HOST)" 6642) -}}{{- end }}
{{- define "kube-ovn.endpoints" -}}
{{- $endpoints := list -}}
{{- range $host := splitList "," (include "kube-ovn.central" (index . 0) | default (index . 1)) -}}
  {{- $endpoints = append $endpoints (printf "tcp:[%s]:%d" $host (int (index $ 2))) -}}
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
