# What the scripts share. Sourced, not run.

say() { printf '%s\n' "$*" >&2; }

need_cargo() {
    command -v cargo >/dev/null 2>&1 || {
        say "cargo was not found: install Rust 1.89 or newer (rustup is the usual way) and run this again"
        exit 2
    }
}

# Whether programs can be linked with OpenBLAS, which the feature `lapack` needs.
has_lapack() {
    command -v cc >/dev/null 2>&1 || return 1
    printf 'int main(void) { return 0; }\n' | cc -x c - -lopenblas -o /dev/null >/dev/null 2>&1
}
