// Entry points, the two system call instructions and the memory accesses that may fault. Everything that must be known by address is here.
#define SYS_exit 60
#define SYS_close 3
#define SYS_rt_sigreturn 15

  .section .blob_header, "a"
  .globl tess_blob_header
tess_blob_header:
  .ascii "TESSTUB1"
  .long 6                        // kAbiVersion
  .long tess_blob_size
  .long tess_entry_park
  .long tess_entry_blank
  .long tess_syscall_site
  .long tess_cp_begin
  .long tess_cp_end
  .long tess_cp_abort
  .long tess_cp_site
  .long tess_deputy_handler
  .long tess_body_sigsys
  .long tess_body_doorbell
  .long tess_body_fault
  .long tess_restorer
  .long tess_body_timer

  .text
// The agent (or the host agent's blank child) jumps here: rdi = slot, rsp = top of the slot's stack.
  .globl tess_entry_park, tess_entry_blank
tess_entry_park:
  cld
  xor %ebp, %ebp
  and $-16, %rsp
  pushf                          // no alignment check of the application's
  andl $~0x40000, (%rsp)
  popf
  call tess_park_native
  ud2
tess_entry_blank:
  cld
  xor %ebp, %ebp
  and $-16, %rsp
  call tess_blank_body
  ud2

// long tess_syscall(number, a1, a2, a3, a4, a5, a6)
  .globl tess_syscall, tess_syscall_site
tess_syscall:
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %rdx
  mov %r8, %r10
  mov %r9, %r8
  mov 8(%rsp), %r9
tess_syscall_instruction:
  syscall
tess_syscall_site:
  ret

// long tess_cp_syscall(uint64_t* pending, number, const uint64_t args[7]); args[6] = mask of *pending that aborts.
// Cancellable: a handler or tracer that finds rip in [cp_begin, cp_end] (not yet started, or rewound for a restart) sends it to
// cp_abort, so no wake-up is lost between the test and the call.
  .globl tess_cp_syscall, tess_cp_begin, tess_cp_end, tess_cp_abort, tess_cp_site
tess_cp_syscall:
  push %rbx
  push %r12
  push %r13
  lea 1f(%rip), %r12
  mov %rdi, %rbx
  mov %rsi, %rax
  mov %rdx, %r13
  mov 0(%r13), %rdi
  mov 8(%r13), %rsi
  mov 16(%r13), %rdx
  mov 24(%r13), %r10
  mov 32(%r13), %r8
  mov 40(%r13), %r9
  mov 48(%r13), %r13
tess_cp_begin:
  test %r13, (%rbx)
  jne tess_cp_abort
tess_cp_end:
  syscall
tess_cp_site:
  jmp *%r12
tess_cp_abort:
  mov $-513, %rax
  jmp *%r12
1:
  pop %r13
  pop %r12
  pop %rbx
  ret

// void tess_leave(Slot* slot, uint64_t frame_sp, uint64_t* pending): rt_sigreturn from the frame whose ucontext is at frame_sp, unless
// *pending != 0 by then: calls tess_leave_again(slot, ucontext), which never returns.
  .globl tess_leave
tess_leave:
  mov %rdi, %r14
  mov %rdx, %rbx
  mov %rsi, %rsp
  lea 2f(%rip), %r12
  mov $-1, %r13
  mov $SYS_rt_sigreturn, %eax
  jmp tess_cp_begin
2:
  mov %rsp, %rsi
  mov %r14, %rdi
  sub $512, %rsp
  and $-16, %rsp
  call tess_leave_again
  ud2

// void tess_leave_first(Slot* slot, uint64_t frame_sp): tess_leave_again(slot, ucontext) on the stack below the frame, for a thread whose
// frame was built on the stack that it runs on: what is called from there must not reach the frame.
  .globl tess_leave_first
tess_leave_first:
  lea -512(%rsi), %rsp
  and $-16, %rsp
  call tess_leave_again
  ud2

// void tess_sigreturn(uint64_t frame_sp): rt_sigreturn, whatever is pending
  .globl tess_sigreturn
tess_sigreturn:
  mov %rdi, %rsp
  mov $SYS_rt_sigreturn, %eax
  jmp tess_syscall_instruction

  .globl tess_restorer
tess_restorer:
  mov $SYS_rt_sigreturn, %eax
  jmp tess_syscall_instruction

// void tess_exit_thread(uint64_t* bitmap_word, uint64_t keep_mask, int status, int fd): gives the slot up, closes its channel and exits without
// touching its stack: once the channel is closed the peer may have the slot used again.
  .globl tess_exit_thread
tess_exit_thread:
  lock andq %rsi, (%rdi)
  mov %edx, %r14d
  mov %rdi, %rbx
  xor %r13d, %r13d               // nothing aborts this one
  lea 11f(%rip), %r12
  mov %ecx, %edi
  mov $SYS_close, %eax
  jmp tess_cp_begin
11:
  mov %r14d, %edi
  mov $SYS_exit, %eax
  jmp tess_syscall_instruction

// long tess_clone3(clone_args*, size, void (*child)(Slot*), Slot*): the child runs child(slot) at the top of the stack in clone_args (which
// loses 8 bytes: the plain site's `ret` takes the child to tess_child_start from there).
  .globl tess_clone3
tess_clone3:
  push %r13
  push %r14
  mov %rdx, %r13
  mov %rcx, %r14
  subq $8, 48(%rdi)              // clone_args.stack_size
  mov 40(%rdi), %rax             // clone_args.stack
  add 48(%rdi), %rax
  lea tess_child_start(%rip), %rcx
  mov %rcx, (%rax)
  mov $435, %eax
  call tess_syscall_instruction
  pop %r14
  pop %r13
  ret
tess_child_start:
  xor %ebp, %ebp
  mov %r14, %rdi
  and $-16, %rsp
  call *%r13
  ud2

// size_t tess_copy(to, from, n): bytes not copied because an address was bad.
  .globl tess_copy, tess_copy_fault, tess_copy_fixup
tess_copy:
  mov %rdx, %rcx
tess_copy_fault:
  rep movsb
tess_copy_fixup:
  mov %rcx, %rax
  ret

// long tess_string_length(address, max): bytes before the first zero, max if there is none, -1 on a bad address.
  .globl tess_string_length, tess_string_fault, tess_string_fixup
tess_string_length:
  xor %eax, %eax
8:
  cmp %rsi, %rax
  jae 9f
tess_string_fault:
  cmpb $0, (%rdi,%rax)
  je 9f
  inc %rax
  jmp 8b
9:
  ret
tess_string_fixup:
  mov $-1, %rax
  ret

// int tess_probe_read(address), tess_probe_write(address): 0 if it can be read, written.
  .globl tess_probe_read, tess_probe_read_fault, tess_probe_write, tess_probe_write_fault, tess_probe_fixup
tess_probe_read:
  xor %eax, %eax
tess_probe_read_fault:
  testb $0, (%rdi)
  ret
tess_probe_write:
  xor %eax, %eax
tess_probe_write_fault:
  lock orb $0, (%rdi)
  ret
tess_probe_fixup:
  mov $1, %eax
  ret

  .globl memcpy, memmove, memset, __memcpy_chk, __stack_chk_fail
__memcpy_chk:
memcpy:
  mov %rdi, %rax
  mov %rdx, %rcx
  rep movsb
  ret
memmove:
  mov %rdi, %rax
  mov %rdx, %rcx
  mov %rdi, %r8
  sub %rsi, %r8
  cmp %rdx, %r8
  jb 10f
  rep movsb
  ret
10:
  lea -1(%rdi,%rdx), %rdi
  lea -1(%rsi,%rdx), %rsi
  std
  rep movsb
  cld
  ret
memset:
  mov %rdi, %r8
  mov %esi, %eax
  mov %rdx, %rcx
  rep stosb
  mov %r8, %rax
  ret
__stack_chk_fail:
  ud2
  .section .note.GNU-stack, "", @progbits
