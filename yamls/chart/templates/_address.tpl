{{- /*
Converts addresses to numbers for _checks.tpl. Templates have no functions for that.
*/}}

{{- /* The 16-bit words of an address in decimal, separated by spaces: 2 for IPv4, 8 for IPv6. Empty for an invalid
address. */}}
{{- define "address.words" -}}
{{- if regexMatch "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$" . -}}
  {{- $bytes := splitList "." . -}}
  {{- $valid := true -}}
  {{- range $bytes -}}{{- if or (gt (atoi .) 255) (ne (toString (atoi .)) .) -}}{{- $valid = false -}}{{- end -}}{{- end -}}
  {{- if $valid -}}
    {{- add (mul 256 (atoi (index $bytes 0))) (atoi (index $bytes 1)) }} {{ add (mul 256 (atoi (index $bytes 2))) (atoi (index $bytes 3)) -}}
  {{- end -}}
{{- else if contains ":" . -}}
  {{- $halves := splitList "::" . -}}
  {{- $groups := splitList ":" . -}}
  {{- if eq (len $halves) 2 -}}
    {{- $left := splitList ":" (index $halves 0) | compact -}}
    {{- $right := splitList ":" (index $halves 1) | compact -}}
    {{- $groups = $left -}}
    {{- range until (sub 8 (len (concat $left $right)) | max 0 | int) -}}{{- $groups = append $groups "0" -}}{{- end -}}
    {{- $groups = concat $groups $right -}}
  {{- end -}}
  {{- $digits := splitList "" "0123456789abcdef" -}}
  {{- $words := list -}}
  {{- range $groups -}}
    {{- if regexMatch "^[0-9a-fA-F]{1,4}$" . -}}
      {{- $word := 0 -}}
      {{- range splitList "" (lower .) -}}
        {{- $digit := . -}}
        {{- range $value, $known := $digits -}}{{- if eq $known $digit -}}{{- $word = add (mul 16 $word) $value -}}{{- end -}}{{- end -}}
      {{- end -}}
      {{- $words = append $words $word -}}
    {{- end -}}
  {{- end -}}
  {{- if and (le (len $halves) 2) (eq (len $groups) 8) (eq (len $words) 8) -}}{{- join " " $words -}}{{- end -}}
{{- end -}}
{{- end }}

{{- /* `yes` if two networks overlap, otherwise empty. The argument is a list of both. A single address is also a
network. */}}
{{- define "address.overlap" -}}
{{- $one := splitList "/" (index . 0) -}}
{{- $other := splitList "/" (index . 1) -}}
{{- $a := splitList " " (include "address.words" (index $one 0)) -}}
{{- $b := splitList " " (include "address.words" (index $other 0)) -}}
{{- if eq (len $a) (len $b) -}}
  {{- $most := mul 16 (len $a) | int -}}
  {{- $prefix := $most -}}
  {{- range list $one $other -}}{{- if eq (len .) 2 -}}{{- $prefix = min $prefix (atoi (index . 1)) | int -}}{{- end -}}{{- end -}}
  {{- $same := true -}}
  {{- range $at, $word := $a -}}
    {{- $bits := sub $prefix (mul 16 $at) | max 0 | min 16 | int -}}
    {{- $unit := 1 -}}
    {{- range until (sub 16 $bits | int) -}}{{- $unit = mul 2 $unit -}}{{- end -}}
    {{- if ne (div (atoi $word) $unit) (div (atoi (index $b $at)) $unit) -}}{{- $same = false -}}{{- end -}}
  {{- end -}}
  {{- if $same -}}yes{{- end -}}
{{- end -}}
{{- end }}

{{- /* The family of an address or a network, with the name used in values.yaml. */}}
{{- define "address.family" -}}{{- if contains ":" . -}}ipv6{{- else -}}ipv4{{- end -}}{{- end }}
