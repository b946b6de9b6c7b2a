{{- /*
Checks that values.schema.json cannot express, because they depend on several values or on the cluster. Each error
starts with the name of the value to change.
*/}}

{{- define "kube-ovn.check" -}}
{{- $cidrs := .Values.cidrs -}}
{{- $ranges := list "pods" "join" "services" -}}

{{- /* Ranges must be valid, and ranges of one address family must not overlap. */ -}}
{{- range $family := list "ipv4" "ipv6" -}}
  {{- range $at, $of := $ranges -}}
    {{- $cidr := get (get $cidrs $of) $family -}}
    {{- if and $cidr (not (include "address.words" (splitList "/" $cidr | first))) -}}
      {{- fail (printf "cidrs.%s.%s: %s is no network" $of $family $cidr) -}}
    {{- end -}}
    {{- range $before := slice $ranges 0 $at -}}
      {{- $other := get (get $cidrs $before) $family -}}
      {{- if and $cidr $other (include "address.overlap" (list $cidr $other)) -}}
        {{- fail (printf "cidrs.%s.%s: %s overlaps cidrs.%s.%s, %s" $of $family $cidr $before $family $other) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- $pods := get $cidrs.pods $family -}}
  {{- if and $pods (not (get $cidrs.join $family)) -}}
    {{- fail (printf "cidrs.join.%s: is empty, but cidrs.pods.%s is %s, and nodes need an address of each family that pods have" $family $family $pods) -}}
  {{- else if and (get $cidrs.join $family) (not $pods) -}}
    {{- fail (printf "cidrs.pods.%s: is empty, but cidrs.join.%s is %s, and only what pods have is of use to nodes" $family $family (get $cidrs.join $family)) -}}
  {{- end -}}
{{- end -}}
{{- if not (or $cidrs.pods.ipv4 $cidrs.pods.ipv6) -}}{{- fail "cidrs.pods: has neither an ipv4 nor an ipv6 network" -}}{{- end -}}
{{- if not (or $cidrs.services.ipv4 $cidrs.services.ipv6) -}}{{- fail "cidrs.services: has neither an ipv4 nor an ipv6 network" -}}{{- end -}}

{{- /* Gateways and excluded addresses must be in their subnet. */ -}}
{{- range $subnet, $of := dict "defaultSubnet" "pods" "joinSubnet" "join" -}}
  {{- $families := list -}}
  {{- range splitList "," (get $.Values $subnet).gateway | compact -}}
    {{- include "kube-ovn.within" (list (printf "%s.gateway" $subnet) . $cidrs $of) -}}
    {{- $families = append $families (include "address.family" .) -}}
  {{- end -}}
  {{- range list "ipv4" "ipv6" -}}
    {{- if and $families (get (get $cidrs $of) .) (not (has . $families)) -}}
      {{- fail (printf "%s.gateway: has no address of cidrs.%s.%s, %s" $subnet $of . (get (get $cidrs $of) .)) -}}
    {{- end -}}
  {{- end -}}
  {{- if gt (len $families) (len (uniq $families)) -}}{{- fail (printf "%s.gateway: has two addresses of one family" $subnet) -}}{{- end -}}
{{- end -}}
{{- range $at, $range := .Values.defaultSubnet.excludeIPs -}}
  {{- range splitList ".." $range -}}
    {{- include "kube-ovn.within" (list (printf "defaultSubnet.excludeIPs[%d]" $at) . $cidrs "pods") -}}
  {{- end -}}
{{- end -}}

{{- if eq .Values.defaultSubnet.name .Values.joinSubnet.name -}}
  {{- fail (printf "joinSubnet.name: is %s, as defaultSubnet.name is" .Values.joinSubnet.name) -}}
{{- end -}}
{{- if and (eq .Values.ovs.datapath "userspace") (not (include "kube-ovn.oneIface" .)) -}}
  {{- fail (printf "tunnel.iface: is %q, but ovs.datapath is userspace, which needs the name of one interface" .Values.tunnel.iface) -}}
{{- end -}}
{{- if and $cidrs.pods.ipv6 .Values.tunnel.mtu (lt (int .Values.tunnel.mtu) 1280) -}}
  {{- fail (printf "tunnel.mtu: is %d, but cidrs.pods.ipv6 is set, and IPv6 takes at least 1280" (int .Values.tunnel.mtu)) -}}
{{- end -}}

{{- /* Addresses that must be reachable before the network exists must not be in its ranges. */ -}}
{{- $outside := dict -}}
{{- range $at, $address := .Values.central.addresses -}}{{- $_ := set $outside (printf "central.addresses[%d]" $at) $address -}}{{- end -}}
{{- $_ := set $outside "apiServer.host" .Values.apiServer.host -}}
{{- range $field, $address := $outside -}}
  {{- if include "address.words" $address -}}
    {{- range $of := $ranges -}}
      {{- $cidr := get (get $cidrs $of) (include "address.family" $address) -}}
      {{- if and $cidr (include "address.overlap" (list $cidr $address)) -}}
        {{- fail (printf "%s: %s is inside cidrs.%s, %s; it must be a node's own address" $field $address $of $cidr) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- /* Without --namespace, helm says `default`, and nobody wants the network there by accident. */ -}}
{{- if and (not .Values.namespace) (eq .Release.Namespace "default") -}}
  {{- fail "namespace: is empty, and helm was told of no namespace; use --namespace kube-system, or set namespace=default if it shall be that" -}}
{{- end -}}

{{- /* Nodes get ready through these pods. */ -}}
{{- range $name := list "central" "controller" "agent" "ovs" -}}
  {{- $tolerant := false -}}
  {{- range (get $.Values $name).tolerations -}}
    {{- $key := eq (.key | default "node.kubernetes.io/not-ready") "node.kubernetes.io/not-ready" -}}
    {{- if and $key (eq (.operator | default "Equal") "Exists") (eq (.effect | default "NoSchedule") "NoSchedule") -}}{{- $tolerant = true -}}{{- end -}}
  {{- end -}}
  {{- if not $tolerant -}}
    {{- fail (printf "%s.tolerations: do not tolerate node.kubernetes.io/not-ready with effect NoSchedule, and nodes get ready only through these pods" $name) -}}
  {{- end -}}
{{- end -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" -}}
  {{- if ne (toJson (get $.Values.agent $field)) (toJson (get $.Values.ovs $field)) -}}
    {{- fail (printf "agent.%s: differs from ovs.%s, but a node needs both of them" $field $field) -}}
  {{- end -}}
{{- end -}}

{{- /* ovn-central gives its directory to a user of its own. */}}
{{- $databases := printf "%s/" (trimSuffix "/" .Values.central.databaseDir) -}}
{{- $switches := printf "%s/" (trimSuffix "/" .Values.ovs.databaseDir) -}}
{{- if or (hasPrefix $databases $switches) (hasPrefix $switches $databases) -}}
  {{- fail (printf "central.databaseDir: %s is that of ovs.databaseDir, or one of them is in the other one, %s" .Values.central.databaseDir .Values.ovs.databaseDir) -}}
{{- end -}}

{{- include "kube-ovn.checkCluster" . -}}
{{- end }}

{{- /* Fails if an address is outside of its range. Arguments: FIELD, ADDRESS, the cidrs, and the name of the range.
*/}}
{{- define "kube-ovn.within" -}}
{{- $field := index . 0 -}}{{- $address := index . 1 -}}{{- $of := index . 3 -}}
{{- if not (include "address.words" $address) -}}{{- fail (printf "%s: %s is no address" $field $address) -}}{{- end -}}
{{- $family := include "address.family" $address -}}
{{- $cidr := get (get (index . 2) $of) $family -}}
{{- if not (and $cidr (include "address.overlap" (list $cidr $address))) -}}
  {{- fail (printf "%s: %s is not inside cidrs.%s.%s, which is %s" $field $address $of $family ($cidr | default "empty")) -}}
{{- end -}}
{{- end }}

{{- /* Compares the values with the cluster. Does nothing without a cluster, as in `helm template`. */}}
{{- define "kube-ovn.checkCluster" -}}
{{- $wanted := list -}}
{{- range compact (list .Values.cidrs.services.ipv4 .Values.cidrs.services.ipv6) -}}{{- $wanted = append $wanted . -}}{{- end -}}
{{- $range := lookup "networking.k8s.io/v1" "ServiceCIDR" "" "kubernetes" -}}
{{- if $range -}}
  {{- if ne (join "," (sortAlpha $range.spec.cidrs)) (join "," (sortAlpha $wanted)) -}}
    {{- fail (printf "cidrs.services: is %s, but the API server gives Services addresses of %s" (join "," $wanted) (join "," $range.spec.cidrs)) -}}
  {{- end -}}
{{- end -}}
{{- $nodes := (lookup "v1" "Node" "" "").items -}}
{{- if and $nodes (not (include "kube-ovn.labelled" .)) -}}
  {{- $labels := include "kube-ovn.databaseNodes" . | replace "," " " -}}
  {{- fail (printf "central.nodeSelector: no node is labelled so; kubectl label node NAME %s" $labels) -}}
{{- end -}}
{{- end }}
