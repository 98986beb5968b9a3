# A Eureka server and a Eureka client, both of Spring Cloud, built with Maven; sourced by scripts/servers.
# shellcheck shell=bash

# eureka_jar KIND: where its jar is; named by its sources, so that a change builds it again.
eureka_jar() {
    local sum
    sum=$(cd "$SOURCES/$1" && find pom.xml src -type f | LC_ALL=C sort | xargs cat | cksum | cut -d' ' -f1)
    echo "$CACHE/$1-$sum/$1.jar"
}

# jar_version PATH: what the build noted beside it; `given` for a jar from elsewhere.
jar_version() {
    java -version >/dev/null 2>&1 && [ -s "$1" ] || return 0
    cat "$(dirname "$1")/version" 2>/dev/null || echo given
}

eureka_version() { jar_version "$1"; }
eureka_client_version() { jar_version "$1"; }
eureka_fits() { true; }
eureka_client_fits() { true; }
eureka_places() { eureka_jar eureka; }
eureka_client_places() { eureka_jar eureka-client; }
eureka_install() { jar_install eureka DISCOVERY_EUREKA; }
eureka_client_install() { jar_install eureka-client DISCOVERY_EUREKA_CLIENT; }

# jar_install KIND VARIABLE
jar_install() {
    local kind=$1 instead="put the path of its jar into $2" program jar
    for program in java javac mvn; do
        command -v "$program" >/dev/null ||
            die "missing: $program, to build and run $kind" \
                "install a JDK from 17 and Maven (on Debian: default-jdk-headless maven); or $instead"
    done
    rm -rf "$WORK/out"
    mkdir "$WORK/out"
    # Output goes to the work folder: the sources' folder may be read-only, and stays clean.
    busy "building $kind with Maven (a minute, once)" nice -n 15 mvn --batch-mode --no-transfer-progress \
        -f "$SOURCES/$kind/pom.xml" "-Dbuild.folder=$WORK/maven" package ||
        die "missing: $kind" "it could not be built (see above); or $instead"
    jar=$(eureka_jar "$kind")
    mv "$WORK/maven/$kind.jar" "$WORK/out/"
    sed -n 's|.*<eureka.version>\(.*\)</eureka.version>.*|\1|p' "$SOURCES/$kind/pom.xml" | head -n 1 >"$WORK/out/version"
    place "$(dirname "$jar")"
}
