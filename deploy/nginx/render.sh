#!/bin/sh
# Fill in the template beside this script and print the configuration:
#   CT_HOST=ct.example.org CT_TLS_CERTIFICATE=… CT_TLS_KEY=… deploy/nginx/render.sh > /etc/nginx/conf.d/ct-assets.conf
# Login files: `printf 'anna:%s\n' "$(openssl passwd -6)" >> /etc/nginx/ct-viewers` (operators stand in both).
set -eu

: "${CT_HOST:?name of the host as people type it, with :port where it is not 443}"
: "${CT_TLS_CERTIFICATE:?path of the certificate chain}"
: "${CT_TLS_KEY:?path of its key}"
CT_SERVER_NAME=${CT_SERVER_NAME:-${CT_HOST%%:*}}
CT_HTTP_LISTEN=${CT_HTTP_LISTEN:-80}
CT_HTTPS_LISTEN=${CT_HTTPS_LISTEN:-443}
CT_VIEWERS=${CT_VIEWERS:-/etc/nginx/ct-viewers}
CT_OPERATORS=${CT_OPERATORS:-/etc/nginx/ct-operators}
CT_VIEW_BACKEND=${CT_VIEW_BACKEND:-127.0.0.1:3302}
CT_OPERATE_BACKEND=${CT_OPERATE_BACKEND:-127.0.0.1:3301}

text=$(cat "$(dirname "$0")/ct-assets.conf.template")
for name in CT_HOST CT_SERVER_NAME CT_HTTP_LISTEN CT_HTTPS_LISTEN CT_TLS_CERTIFICATE CT_TLS_KEY \
    CT_VIEWERS CT_OPERATORS CT_VIEW_BACKEND CT_OPERATE_BACKEND; do
    eval "value=\$$name"
    text=$(printf '%s\n' "$text" | sed "s|\${$name}|$value|g")
done
printf '%s\n' "$text"
