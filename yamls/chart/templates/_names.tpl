{{- /*
What several templates say in the same words.
*/}}

{{- define "kube-ovn.image" -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default (printf "v%s" .Chart.AppVersion) -}}
{{- end }}

{{- /* Labels for people and tools; what selects pods is `app` alone, as in kube-ovn, since a selector cannot be changed. */}}
{{- define "kube-ovn.labels" -}}
app.kubernetes.io/name: kube-ovn
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* Pods, join, services: the networks of one use, IPv4 first. */}}
{{- define "kube-ovn.cidrs" -}}{{- join "," (compact (list .ipv4 .ipv6)) -}}{{- end }}

{{- /* The address of every interface. */}}
{{- define "kube-ovn.everywhere" -}}{{- if .Values.cidrs.pods.ipv4 -}}0.0.0.0{{- else -}}::{{- end -}}{{- end }}

{{- /* Kubelet asks a daemon on the host's network at this address of its own. */}}
{{- define "kube-ovn.loopback" -}}{{- if .Values.cidrs.pods.ipv4 -}}127.0.0.1{{- else -}}::1{{- end -}}{{- end }}

{{- define "kube-ovn.logFlags" -}}
- --log-format={{ .Values.log.format }}
{{- with .Values.log.level }}
- --log-level={{ . }}
{{- end }}
{{- end }}

{{- /* Internal addresses of the nodes where ovn-central may run, as the cluster says, separated by commas; nothing when there is
no cluster to ask. */}}
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

{{- /* Addresses of the nodes where ovn-central may run, separated by commas; nothing when they are not known, and then it is
reached at its Services, whose addresses kubelet writes into variables.

Addresses of nodes need nothing but the nodes' own network. A Service needs kube-proxy (or what stands in for it), which runs on
the hosts' network and waits for no pod network either, so there is no knot; DNS would be one. Kubelet knows a Service before the
pods, since it comes first in the manifest; should it not, the container ends with an error that names what lacks, and its next
start finds it. */}}
{{- define "kube-ovn.central" -}}
{{- if .Values.central.addresses -}}
  {{- join "," .Values.central.addresses -}}
{{- else -}}
  {{- include "kube-ovn.labelled" . -}}
{{- end -}}
{{- end }}

{{- /* A database's endpoints: the northbound one's, or the southbound one's. Only an address may stand in brackets, so that a
variable that kubelet did not fill in is refused. */}}
{{- define "kube-ovn.northbound" -}}{{- include "kube-ovn.endpoints" (list . "$(OVN_NB_SERVICE_HOST)" 6641) -}}{{- end }}
{{- define "kube-ovn.southbound" -}}{{- include "kube-ovn.endpoints" (list . "$(OVN_SB_SERVICE_HOST)" 6642) -}}{{- end }}
{{- define "kube-ovn.endpoints" -}}
{{- $endpoints := list -}}
{{- range $host := splitList "," (include "kube-ovn.central" (index . 0) | default (index . 1)) -}}
  {{- $endpoints = append $endpoints (printf "tcp:[%s]:%d" $host (int (index $ 2))) -}}
{{- end -}}
{{- join "," $endpoints -}}
{{- end }}

{{- /* The API server, where the Service `kubernetes` is not to be relied on. */}}
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

{{- /* `yes` when tunnel.iface is the name of one interface and no expression. The userspace datapath makes it a port of its bridge
br-phy, which then has its addresses; the kernel's leaves it as it is. */}}
{{- define "kube-ovn.oneIface" -}}{{- if regexMatch "^[A-Za-z0-9._-]+$" .Values.tunnel.iface -}}yes{{- end -}}{{- end }}

{{- /* Of a container that writes into the node's own directories without being privileged: SELinux lets no other type do that.
Without SELinux it means nothing. */}}
{{- define "kube-ovn.nodesFiles" -}}
seLinuxOptions:
  type: spc_t
{{- end }}
