# kube-apiserver, built with Go; it runs on an etcd of `etcd new`. Sourced by scripts/servers.
# shellcheck shell=bash

KUBE_MODULE=$SOURCES/kube-apiserver

kube_variable() {
    echo DISCOVERY_KUBE_APISERVER
}

kube_version() {
    "$1" --version 2>/dev/null | sed -n 's/^Kubernetes v\([0-9][0-9.]*\).*/\1/p'
}

kube_fits() {
    ! older "$2" 1.31
}

kube_folder() {
    echo "$CACHE/kube-apiserver-$(go_version "$KUBE_MODULE" k8s.io/kubernetes)-$MACHINE"
}

kube_places() {
    if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then echo "$KUBEBUILDER_ASSETS/kube-apiserver"; fi
    command -v kube-apiserver || true
    echo "$(kube_folder)/kube-apiserver"
}

kube_install() {
    local version flags
    local instead='put a kube-apiserver from 1.31 on PATH, its folder into KUBEBUILDER_ASSETS'
    instead="$instead, or its path into DISCOVERY_KUBE_APISERVER"
    version=$(go_version "$KUBE_MODULE" k8s.io/kubernetes)
    flags="-X k8s.io/component-base/version.gitVersion=v$version"
    flags="$flags -X k8s.io/component-base/version.gitMajor=$(echo "$version" | cut -d. -f1)"
    flags="$flags -X k8s.io/component-base/version.gitMinor=$(echo "$version" | cut -d. -f2)"
    go_build "kube-apiserver $version" "$instead" "$KUBE_MODULE" "$flags" kube-apiserver
    go_licence "$KUBE_MODULE" k8s.io/kubernetes copyright
    place "$(kube_folder)"
}
