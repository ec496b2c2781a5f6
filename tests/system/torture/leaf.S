# The smallest program: one marker call, then exit_group with the status given as its one-digit argument.
# Assembled for both x86-64 and i386, linked static without libc.
	.text
	.globl _start
_start:
#ifdef __x86_64__
	mov	$146, %eax		# sched_get_priority_max(SCHED_FIFO)
	mov	$1, %edi
	syscall
	xor	%edi, %edi
	cmpq	$2, (%rsp)
	jb	1f
	mov	16(%rsp), %rax
	movzbl	(%rax), %edi
	sub	$'0', %edi
1:	mov	$231, %eax		# exit_group
	syscall
#else
	mov	$159, %eax		# sched_get_priority_max(SCHED_FIFO)
	mov	$1, %ebx
	int	$0x80
	xor	%ebx, %ebx
	cmpl	$2, (%esp)
	jb	1f
	mov	8(%esp), %eax
	movzbl	(%eax), %ebx
	sub	$'0', %ebx
1:	mov	$252, %eax		# exit_group
	int	$0x80
#endif
	.section .note.GNU-stack,"",@progbits
