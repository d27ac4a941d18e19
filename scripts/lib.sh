# What the scripts share. Sourced, not run.

say() { printf '%s\n' "$*" >&2; }

need_cargo() {
    command -v cargo >/dev/null 2>&1 || {
        say "cargo was not found: install Rust 1.89 or newer (rustup is the usual way) and run this again"
        exit 2
    }
}

# What the checks run beside the compiler; a minimal toolchain has neither.
need_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || {
        say "cargo fmt or cargo clippy was not found: rustup component add clippy rustfmt, and run this again"
        exit 2
    }
}

# Whether programs can be linked with OpenBLAS, which the feature `lapack` needs.
has_lapack() {
    command -v cc >/dev/null 2>&1 || return 1
    printf 'int main(void) { return 0; }\n' | cc -x c - -lopenblas -o /dev/null >/dev/null 2>&1
}

# Whether NVIDIA's driver shows a GPU.
has_gpu() {
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then return 0; fi
    [ -e /dev/nvidia0 ] || [ -e /dev/dxg ]
}
