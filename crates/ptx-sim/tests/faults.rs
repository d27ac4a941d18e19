//! What a kernel may not do is found, in the line where it is done; what it may do is not taken for it.

use ptx_sim::{Arg, Buffer, Device, Error, FaultKind, Launch, Module, Space};

/// A kernel `k(p_x, p_out, p_n)` with registers enough for the body, and 256 bytes of shared memory.
fn module(body: &str) -> Result<Module, Error> {
    Module::parse(&format!(
        "
.version 7.8
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry k(.param .u64 p_x, .param .u64 p_out, .param .u32 p_n)
{{
    .reg .pred %p<8>; .reg .b32 %r<16>; .reg .b64 %rd<8>; .reg .f32 %f<16>;
    .shared .align 16 .b8 tile[256];
    ld.param.u64 %rd1, [p_x];
    ld.param.u64 %rd2, [p_out];
    ld.param.u32 %r1, [p_n];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd3, %r2, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    shl.b32 %r3, %r2, 2;
    {body}
    ret;
}}"
    ))
}

struct Run {
    device: Device,
    out: Buffer,
    result: Result<(), Error>,
}

impl Run {
    fn kind(self) -> FaultKind {
        match self.result {
            Err(Error::Fault(fault)) => fault.kind,
            other => panic!("no fault but {other:?}"),
        }
    }

    fn out(self) -> Vec<f32> {
        self.result.and_then(|()| self.device.read(self.out)).unwrap()
    }
}

fn run_with(body: &str, threads: u32, seed: u64) -> Run {
    let module = module(body).unwrap();
    let mut device = Device::new();
    let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let (x, out) = (device.upload(&x), device.unwritten::<f32>(64));
    let args = [Arg::from(x), Arg::from(out), Arg::from(64_u32)];
    let launch = Launch::new([1, 1, 1], [threads, 1, 1]).seed(seed).shared(64);
    let result = device.launch(&module, "k", &launch, &args).map(drop);
    Run { device, out, result }
}

fn run(body: &str) -> Run {
    run_with(body, 64, 0)
}

#[test]
fn accesses_outside_a_buffer() {
    let beyond = run("ld.global.f32 %f1, [%rd4+4];").kind();
    let (space, size) = (Space::Global, 256);
    assert_eq!(beyond, FaultKind::OutOfBounds { space, offset: 256, bytes: 4, size });
    let before = run("st.global.f32 [%rd5+-4], 0f00000000;").kind();
    assert!(matches!(before, FaultKind::OutOfBounds { offset: -4, .. }), "{before:?}");
    let nowhere = run("mov.u64 %rd6, 64; ld.global.f32 %f1, [%rd6];").kind();
    assert!(matches!(nowhere, FaultKind::NoBuffer { .. }), "{nowhere:?}");
    let shared = run("mov.u32 %r4, tile; st.shared.u32 [%r4+256], %r2;").kind();
    assert!(matches!(shared, FaultKind::OutOfBounds { space: Space::Shared, size: 256, .. }));
    let dynamic = run("mov.u32 %r4, dynamic; st.shared.u32 [%r4+64], %r2;").kind();
    assert!(matches!(dynamic, FaultKind::OutOfBounds { offset: 64, size: 64, .. }), "{dynamic:?}");
}

#[test]
fn alignment() {
    let vector = run("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd4];").kind();
    assert!(matches!(vector, FaultKind::Misaligned { bytes: 16, .. }), "{vector:?}");
    assert!(matches!(
        run("ld.global.u32 %r4, [%rd4+2];").kind(),
        FaultKind::Misaligned { bytes: 4, .. }
    ));
}

#[test]
fn what_was_never_written() {
    let register = run("add.s32 %r4, %r5, 1;").kind();
    assert_eq!(register, FaultKind::UnsetRegister { name: "%r5".into() });
    let predicate = run("@%p1 bra END; END:").kind();
    assert_eq!(predicate, FaultKind::UnsetRegister { name: "%p1".into() });
    let shared = run("mov.u32 %r4, tile; ld.shared.u32 %r5, [%r4];").kind();
    assert_eq!(shared, FaultKind::UnwrittenMemory { space: Space::Shared, offset: 0 });
    let out = run("ld.global.u32 %r5, [%rd5];").kind();
    assert!(matches!(out, FaultKind::UnwrittenMemory { space: Space::Global, .. }));
    let some = run("setp.lt.u32 %p1, %r2, 63; @%p1 st.global.f32 [%rd5], 0f3F800000;");
    assert_eq!(some.device.read::<f32>(some.out), Err(Error::Unwritten { element: 63 }));
    assert_eq!(run("st.global.u32 [%rd4], %r2;").kind(), FaultKind::ReadOnly);
}

/// Each thread reads what its neighbour wrote.
const NEIGHBOUR: [&str; 2] = [
    "mov.u32 %r4, tile; add.s32 %r5, %r4, %r3; st.shared.u32 [%r5], %r2;",
    "xor.b32 %r6, %r3, 4; add.s32 %r6, %r4, %r6; ld.shared.u32 %r7, [%r6];
     cvt.rn.f32.u32 %f1, %r7; st.global.f32 [%rd5], %f1;",
];

#[test]
fn races_are_found_in_every_order_and_barriers_end_them() {
    let [write, read] = NEIGHBOUR;
    for seed in 0..20 {
        let kind = run_with(&format!("{write} {read}"), 64, seed).kind();
        // Either the value is missing or the access races, by the order in which the two threads run.
        assert!(
            matches!(
                kind,
                FaultKind::Race { space: Space::Shared, .. } | FaultKind::UnwrittenMemory { .. }
            ),
            "{kind:?}"
        );
        for barrier in ["bar.sync 0;", "bar.warp.sync 0xffffffff;"] {
            let found = run_with(&format!("{write} {barrier} {read}"), 64, seed).out();
            let want: Vec<f32> = (0..64_u32).map(|i| (i ^ 1) as f32).collect();
            assert_eq!(found, want);
        }
        // Across warps a barrier of the warp orders nothing.
        let far = read.replace("%r3, 4", "%r3, 128");
        let kind = run_with(&format!("{write} bar.warp.sync 0xffffffff; {far}"), 64, seed).kind();
        assert!(
            matches!(kind, FaultKind::Race { .. } | FaultKind::UnwrittenMemory { .. }),
            "{kind:?}"
        );
        // Reading first and writing then is a race as well.
        let again = format!("{write} bar.sync 0; {read} st.shared.u32 [%r5], %r7;");
        let kind = run_with(&again, 64, seed).kind();
        assert!(matches!(kind, FaultKind::Race { .. }), "{kind:?}");
    }
    let same = run("st.global.u32 [%rd2], %r2;").kind();
    assert!(matches!(same, FaultKind::Race { space: Space::Global, .. }), "{same:?}");
}

#[test]
fn blocks_do_not_meet() {
    let text = "mov.u32 %r4, %ctaid.x; st.global.u32 [%rd5], %r4;";
    let module = module(text).unwrap();
    let mut device = Device::new();
    let (x, out) = (device.upload(&[0_f32]), device.unwritten::<u32>(64));
    let args = [Arg::from(x), Arg::from(out), Arg::from(64_u32)];
    let two = device.launch(&module, "k", &Launch::new([2, 1, 1], [64, 1, 1]), &args);
    let Err(Error::Fault(fault)) = two else { panic!("{two:?}") };
    assert!(matches!(fault.kind, FaultKind::Race { space: Space::Global, .. }), "{fault}");
    assert_eq!(fault.text, text);
}

#[test]
fn atomics_are_no_race_and_lose_nothing() {
    let body =
        "mov.u32 %r4, tile; setp.eq.u32 %p1, %r2, 0; @%p1 st.shared.u32 [%r4], 0; bar.sync 0;
        atom.shared.add.u32 %r5, [%r4], %r2; bar.sync 0; ld.shared.u32 %r6, [%r4];
        cvt.rn.f32.u32 %f1, %r6; st.global.f32 [%rd5], %f1;";
    assert_eq!(run(body).out(), [2016.0; 64]);
    let torn = body.replace("%r2; bar.sync 0; ld", "%r2; ld");
    assert!(matches!(run(&torn).kind(), FaultKind::Race { .. }));
}

#[test]
fn barriers_that_not_all_reach() {
    let some = run("setp.lt.u32 %p1, %r2, 40; @!%p1 bra END; bar.sync 0; END:").kind();
    assert_eq!(some, FaultKind::DivergentBarrier { waiting: 40, elsewhere: 24 });
    let two = "setp.lt.u32 %p1, %r2, 40; @%p1 bra ONE; bar.sync 0; bra END; ONE: bar.sync 1; END:";
    assert!(matches!(run(two).kind(), FaultKind::DivergentBarrier { .. }));
    let places = two.replace("bar.sync 1", "bar.sync 0");
    assert!(matches!(run(&places).kind(), FaultKind::DivergentBarrier { .. }));
    let lanes = run("setp.lt.u32 %p1, %r2, 40; @!%p1 bra REST; bar.warp.sync 0xffffffff; bra END;
        REST: bar.sync 0; END:");
    assert!(matches!(lanes.kind(), FaultKind::DivergentWarp { missing: 0xffff_ff00, .. }));
    let outside = run("bar.warp.sync 1;").kind();
    assert!(matches!(outside, FaultKind::NotInMask { mask: 1, .. }), "{outside:?}");
}

#[test]
fn loops_without_end() {
    assert!(matches!(run_with("L: bra L;", 1, 0).kind(), FaultKind::Endless { .. }));
    let module = module("bra L; L:").unwrap();
    let mut device = Device::new();
    let x = device.upload(&[0_f32]);
    let args = [Arg::from(x), Arg::from(x), Arg::from(1_u32)];
    let launch = Launch::new([1, 1, 1], [1, 1, 1]);
    assert!(device.launch(&module, "k", &launch.at_most(10), &args).is_ok());
    let found = device.launch(&module, "k", &launch.at_most(9), &args);
    let Err(Error::Fault(fault)) = found else { panic!("{found:?}") };
    assert_eq!(fault.kind, FaultKind::Endless { instructions: 9 });
}

#[test]
fn shuffles_votes_and_reductions() {
    let sum = |distance| {
        format!("shfl.sync.bfly.b32 %r5, %r4, {distance}, 31, 0xffffffff; add.s32 %r4, %r4, %r5;")
    };
    let body: String = [16, 8, 4, 2, 1].map(sum).concat();
    let end = "cvt.rn.f32.u32 %f1, %r4; st.global.f32 [%rd5], %f1;";
    let found = run(&format!("mov.u32 %r4, %r2; {body} {end}")).out();
    assert_eq!((found[0], found[31], found[32]), (496.0, 496.0, 1520.0));
    let found = run(&format!("redux.sync.max.u32 %r4, %r2, 0xffffffff; {end}")).out();
    assert_eq!((found[3], found[63]), (31.0, 63.0));
    let down =
        format!("shfl.sync.down.b32 %r4|%p1, %r2, 4, 31, 0xffffffff; @!%p1 mov.u32 %r4, 99; {end}");
    let found = run(&down).out();
    assert_eq!((found[0], found[27], found[28]), (4.0, 31.0, 99.0));
    let odd = format!(
        "and.b32 %r5, %r2, 1; setp.eq.u32 %p1, %r5, 1; vote.sync.ballot.b32 %r4, %p1, 0xffffffff; popc.b32 %r4, %r4; {end}"
    );
    assert_eq!(run(&odd).out(), [16.0; 64]);
    let absent = run(
        "setp.lt.u32 %p1, %r2, 16; @!%p1 bra END; shfl.sync.idx.b32 %r4, %r2, 20, 31, 0xffff; END:",
    );
    assert_eq!(absent.kind(), FaultKind::AbsentLane { lane: 20 });
}

#[test]
fn asynchronous_copies_must_be_waited_for() {
    let start = "mov.u32 %r4, tile; add.s32 %r5, %r4, %r3; cp.async.ca.shared.global [%r5], [%rd4], 4; cp.async.commit_group;";
    let end = "ld.shared.f32 %f1, [%r5]; st.global.f32 [%rd5], %f1;";
    let want: Vec<f32> = (0..64).map(|i| i as f32).collect();
    assert_eq!(run(&format!("{start} cp.async.wait_group 0; {end}")).out(), want);
    assert!(matches!(
        run(&format!("{start} {end} cp.async.wait_group 0;")).kind(),
        FaultKind::InFlight { .. }
    ));
    assert!(matches!(
        run(&format!("{start} cp.async.wait_group 1; {end}")).kind(),
        FaultKind::InFlight { .. }
    ));
    assert!(matches!(run(start).kind(), FaultKind::Other { .. }));
    // Another thread's copy is there after a barrier only.
    let other = "xor.b32 %r6, %r3, 4; add.s32 %r5, %r4, %r6;";
    let late = format!("{start} cp.async.wait_group 0; {other} bar.sync 0; {end}");
    assert_eq!(run(&late).out()[..2], [1.0, 0.0]);
    let early = run(&format!("{start} cp.async.wait_group 0; {other} {end}")).kind();
    assert!(
        matches!(
            early,
            FaultKind::Race { .. } | FaultKind::InFlight { .. } | FaultKind::UnwrittenMemory { .. }
        ),
        "{early:?}"
    );
}

#[test]
fn launches_that_do_not_fit() {
    let module = module("").unwrap();
    let mut device = Device::new();
    let x = device.upload(&[0_f32]);
    let launch = Launch::new([1, 1, 1], [32, 1, 1]);
    let two = device.launch(&module, "k", &launch, &[Arg::from(x), Arg::from(x)]);
    assert!(matches!(two, Err(Error::ArgumentCount { expected: 3, found: 2, .. })));
    let wide =
        device.launch(&module, "k", &launch, &[Arg::from(x), Arg::from(x), Arg::from(1_u64)]);
    assert!(matches!(wide, Err(Error::ArgumentSize { expected: 4, found: 8, .. })));
    let none = device.launch(&module, "l", &launch, &[]);
    assert_eq!(none.unwrap_err().to_string(), "no kernel l; there are k");
    let args = [Arg::from(x), Arg::from(x), Arg::from(1_u32)];
    for block in [[0, 1, 1], [1025, 1, 1], [32, 33, 1], [1, 1, 65]] {
        let launch = Launch::new([1, 1, 1], block);
        assert!(matches!(device.launch(&module, "k", &launch, &args), Err(Error::Launch { .. })));
    }
}

/// A kernel that puts the 64-bit number at a place of its table, found by thread, to its output.
fn table(load: &str) -> Result<Vec<u64>, Error> {
    let module = Module::parse(&format!(
        "
.version 7.8
.target sm_80
.address_size 64
.visible .entry k(.param .u32 p_shift, .param .align 8 .b8 p_table[48], .param .u64 p_out)
{{
    .reg .b32 %r<3>; .reg .b64 %rd<6>;
    ld.param.u32 %r1, [p_shift];
    ld.param.u64 %rd1, [p_out];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd2, %r2, 8;
    add.u64 %rd1, %rd1, %rd2;
    mov.u64 %rd3, p_table;
    add.u64 %rd3, %rd3, %rd2;
    {load}
    st.global.u64 [%rd1], %rd4;
    ret;
}}"
    ))?;
    let params = module.kernel("k").unwrap().params();
    assert_eq!((params[1].ty.as_str(), params[1].bytes), ("b8[48]", 48));
    let mut device = Device::new();
    let out = device.unwritten::<u64>(4);
    let bytes: Vec<u8> = (10..16_u64).flat_map(u64::to_le_bytes).collect();
    let args = [Arg::from(7_u32), Arg::from(bytes), Arg::from(out)];
    device.launch(&module, "k", &Launch::new([1, 1, 1], [4, 1, 1]), &args)?;
    device.read(out)
}

#[test]
fn parameters_that_are_arrays() {
    assert_eq!(table("ld.param.u64 %rd4, [%rd3];").unwrap(), [10, 11, 12, 13]);
    assert_eq!(table("ld.param.u64 %rd4, [%rd3+16];").unwrap(), [12, 13, 14, 15]);
    assert_eq!(table("ld.param.u64 %rd4, [p_table+40];").unwrap(), [15; 4]);
    let kind = |load| match table(load) {
        Err(Error::Fault(fault)) => fault.kind,
        other => panic!("no fault but {other:?}"),
    };
    // What follows the table is another parameter, but not the table's.
    let (space, bytes, size) = (Space::Parameter, 8, 48);
    assert_eq!(
        kind("ld.param.u64 %rd4, [p_table+48];"),
        FaultKind::OutOfBounds { space, offset: 48, bytes, size }
    );
    assert_eq!(
        kind("ld.param.u64 %rd4, [p_table+-4];"),
        FaultKind::OutOfBounds { space, offset: -4, bytes, size }
    );
    let half = "ld.param.u64 %rd4, [p_shift];";
    assert!(matches!(kind(half), FaultKind::OutOfBounds { size: 4, .. }));
    assert_eq!(
        kind("ld.param.u64 %rd4, [p_table+12];"),
        FaultKind::Misaligned { offset: 12, bytes: 8 }
    );
    // Nothing says that the table lies at a multiple of sixteen.
    let wide = "ld.param.v2.u64 {%rd4, %rd5}, [p_table+16];";
    assert_eq!(kind(wide), FaultKind::Misaligned { offset: 16, bytes: 16 });
    assert_eq!(kind("ld.param.u64 %rd4, [%rd2];"), FaultKind::NoBuffer { space, address: 0 });
    let many = Module::parse(
        ".visible .entry k(.param .u64 p_x, .param .align 8 .b8 p_table[4096]) { ret; }",
    );
    assert!(many.unwrap_err().to_string().contains("4104 bytes"));
    let size = |bytes: Vec<u8>| {
        let text = ".visible .entry k(.param .align 4 .b8 p_table[8]) { ret; }";
        let module = Module::parse(text).unwrap();
        Device::new().launch(&module, "k", &Launch::new([1, 1, 1], [1, 1, 1]), &[Arg::from(bytes)])
    };
    assert!(size(vec![0; 8]).is_ok());
    assert!(matches!(size(vec![0; 7]), Err(Error::ArgumentSize { expected: 8, found: 7, .. })));
}

#[test]
fn what_is_not_known_is_said_with_its_line() {
    for (body, word) in [
        ("wgmma.fence;", "wgmma"),
        ("add.rz.f32 %f1, %f2, %f3;", "rz"),
        ("ld.global.v8.f32 %f1, [%rd4];", "v8"),
        ("ld.global.f32 %f99, [%rd4];", "%f99"),
        ("ld.global.f32 %f1, [%rd4-4];", "[%rd4+-4]"),
        ("bra NOWHERE;", "NOWHERE"),
        ("add.s32 %r1, %r2;", "operand 3"),
        ("bar.sync 0, 32;", "number of threads"),
        ("ld.global.v2.f32 {%f1, %f2, %f3}, [%rd4];", "2 registers"),
    ] {
        let message = module(body).unwrap_err().to_string();
        assert!(message.contains(word) && message.starts_with("line 18:"), "{body}: {message}");
    }
}
