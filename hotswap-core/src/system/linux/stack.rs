//! The calling thread's stack, frame by frame.

use std::ffi::{c_int, c_void};

/// The most frames that are listed. Deep recursion has many more, which say nothing new.
const FRAMES_MAX: usize = 512;

/// The unwinder's context of a frame.
type Context = *mut c_void;

/// `_URC_NO_REASON`: go on with the next frame.
const GO_ON: c_int = 0;
/// `_URC_NORMAL_STOP`: look at no more frames.
const STOP: c_int = 4;

// The unwinder that std links, too (Level 1 of the Itanium C++ ABI, *Exception Handling*; the first two functions are
// extensions of libgcc and libunwind).
unsafe extern "C" {
    fn _Unwind_Backtrace(
        each: extern "C" fn(Context, *mut c_void) -> c_int,
        frames: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIPInfo(context: Context, is_before_instruction: *mut c_int) -> usize;
}

/// An address in the instruction of each frame, from the function that calls the caller of this one outwards: what a
/// frame has called returns to the instruction after that. At most 512 frames.
///
/// Takes the dynamic linker's lock. Not for signal handlers: it allocates.
#[inline(never)]
pub(crate) fn frames() -> Vec<usize> {
    extern "C" fn each(context: Context, frames: *mut c_void) -> c_int {
        // SAFETY: `_Unwind_Backtrace` passes on the address of the list below, which nobody else uses meanwhile.
        let frames = unsafe { &mut *frames.cast::<Vec<usize>>() };
        let mut is_before_instruction = 0;
        // SAFETY: the unwinder lends the context of a frame for this call, and writes the flag.
        let address = unsafe { _Unwind_GetIPInfo(context, &raw mut is_before_instruction) };
        if address == 0 || frames.len() == FRAMES_MAX {
            return STOP;
        }
        // A frame that a signal has interrupted has not begun the instruction.
        frames.push(address - usize::from(is_before_instruction == 0));
        GO_ON
    }

    /// This function, and its caller.
    const OWN_FRAMES: usize = 2;

    let mut frames: Vec<usize> = Vec::new();
    // SAFETY: `each` has the type that the unwinder calls, does not unwind, and the list outlives the call.
    unsafe { _Unwind_Backtrace(each, (&raw mut frames).cast()) };
    frames.drain(..OWN_FRAMES.min(frames.len()));
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn caller(depth: usize) -> Vec<usize> {
        if depth == 0 {
            return std::hint::black_box(frames());
        }
        std::hint::black_box(caller(depth - 1))
    }

    #[test]
    fn each_call_is_a_frame_up_to_a_bound() {
        let (one, two) = (caller(1), caller(11));
        assert_eq!(two.len(), one.len() + 10);
        assert_eq!(two[0], two[9], "the same call");
        assert_eq!(caller(5000).len(), FRAMES_MAX - 2);
    }
}
