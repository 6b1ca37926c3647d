/* The lab's guest. It keeps a region of memory full of pages that prove themselves, rewrites them for
 * ever and says on COM1 how it is doing. After a migration it must count on without a bad page.
 *
 *   a page of the region              kinds of page, by index % 8
 *   +0    MAGIC ^ index               0     filler of zeros
 *   +4    version                     1     one repeated byte
 *   +8    checksum of all the rest    2, 3  text-like: the same with each version; another with each
 *   +12   kind                        4, 5  random: another with each version; always the same
 *   +16   filler                      6     copies: index and version are left out, all are identical
 *                                     7     no header and wholly zero, but with each fourth version
 *                                           as kind 1
 *
 * The command line (from PVH's start info) sets it up; all numbers are decimal:
 *
 *   pages=N   pages in the region, which begins at 2 MiB                    (256; at most 131072)
 *   hot=N     the first N pages are rewritten, the others only checked      (all)
 *   gap=N     time between two pages in units of 1024 turns of the TSC      (1500: half a ms at 3 GHz)
 *   tick=N    pages between two lines                                       (64)
 *   seeds=N   how many different fillers there are of each kind from 2 to 5  (4)
 *
 * It prints `counter ready pages N`, then `tick T pages N bad B` for ever, and for each wrong page
 * `BAD index I version V`. It needs no interrupt, no paging and no device but COM1, and so the same
 * image runs on every x86 machine type.
 */

    .set REGION, 0x200000
    .set MAX_PAGES, 131072
    .set MAGIC, 0x5ea11f70
    .set COM1, 0x3f8
    .set FILLER_WORDS, 1020

/* One step of xorshift32 in eax; spoils ebx. */
    .macro NEXT_RANDOM
    movl %eax, %ebx
    shll $13, %ebx
    xorl %ebx, %eax
    movl %eax, %ebx
    shrl $17, %ebx
    xorl %ebx, %eax
    movl %eax, %ebx
    shll $5, %ebx
    xorl %ebx, %eax
    .endm

/* XEN_ELFNOTE_PHYS32_ENTRY: QEMU's -kernel enters here in 32-bit protected mode, flat segments, ebx = start info. */
    .section .note.Xen, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long start

    .text
    .globl start
start:
    cld
    movl $stack_end, %esp
    movl 24(%ebx), %esi                 /* cmdline_paddr, its low half */
    call read_command_line
    call start_serial
    call write_all_pages
    movl $text_ready, %esi
    call print
    movl pages, %eax
    call print_number
    call end_line

/* esi = the page that is checked next and, if it is hot, rewritten. */
    xorl %esi, %esi
forever:
    call check_page
    cmpl hot, %esi
    jae 1f
    incl versions(, %esi, 4)
    call write_page
1:  call wait_gap
    decl until_tick
    jnz 2f
    movl tick, %eax
    movl %eax, until_tick
    call print_tick
2:  incl %esi
    cmpl pages, %esi
    jb forever
    xorl %esi, %esi
    jmp forever

/* A TSC that jumps when the guest moves makes one gap wrong, by at most 2^32 turns. */
wait_gap:
    rdtsc
    subl last_turn, %eax
    cmpl gap, %eax
    jae 1f
    pause
    jmp wait_gap
1:  rdtsc
    movl %eax, last_turn
    ret

/* ---- pages: all of these take esi = index and keep it -------------------------------------------- */

write_all_pages:
    xorl %esi, %esi
1:  call write_page
    incl %esi
    cmpl pages, %esi
    jb 1b
    ret

write_page:
    call describe_page
    cmpl $7, %edx
    je write_zeros
    movl %eax, 0(%edi)
    movl %ebx, 4(%edi)
    movl %edx, 12(%edi)
    call write_filler
    call checksum
    movl %eax, 8(%edi)
    ret
write_zeros:
    pushl %edi
    xorl %eax, %eax
    movl $1024, %ecx
    rep stosl
    popl %edi
    ret

/* Compares page and description; it only reads, so a page that is not hot stays clean. */
check_page:
    call describe_page
    cmpl $7, %edx
    je check_zeros
    cmpl %eax, 0(%edi)
    jne bad_page
    cmpl %ebx, 4(%edi)
    jne bad_page
    cmpl %edx, 12(%edi)
    jne bad_page
    call checksum
    cmpl %eax, 8(%edi)
    jne bad_page
    ret
check_zeros:
    xorl %eax, %eax
    movl $1024, %ecx
    repe scasl
    jne bad_page
    ret
bad_page:
    incl bad
    pushl %esi
    movl $text_bad, %esi
    call print
    movl (%esp), %eax
    call print_number
    movl $text_version, %esi
    call print
    popl %esi
    movl versions(, %esi, 4), %eax
    call print_number
    jmp end_line

/* -> edi = address, ebp = version, eax = first word, ebx = version word, edx = kind */
describe_page:
    movl %esi, %edi
    shll $12, %edi
    addl $REGION, %edi
    movl versions(, %esi, 4), %ebp
    movl %esi, %eax
    movl %ebp, %ebx
    movl %esi, %edx
    andl $7, %edx
    cmpl $6, %edx
    jb 2f
    ja 1f
    xorl %eax, %eax                     /* copies know neither index nor version */
    xorl %ebx, %ebx
    jmp 2f
1:  movl %ebp, %ecx                     /* wholly zero, but with each fourth version */
    andl $3, %ecx
    cmpl $3, %ecx
    jne 2f
    movl $1, %edx
2:  xorl $MAGIC, %eax
    ret

/* edi = page -> eax: a rotating sum over all words but the checksum's own */
checksum:
    pushl %esi
    movl 0(%edi), %eax
    roll $5, %eax
    addl 4(%edi), %eax
    roll $5, %eax
    addl 12(%edi), %eax
    leal 16(%edi), %esi
    movl $FILLER_WORDS / 4, %ecx        /* unrolled: this loop is most of the guest's work */
1:  roll $5, %eax
    addl 0(%esi), %eax
    roll $5, %eax
    addl 4(%esi), %eax
    roll $5, %eax
    addl 8(%esi), %eax
    roll $5, %eax
    addl 12(%esi), %eax
    addl $16, %esi
    decl %ecx
    jnz 1b
    popl %esi
    ret

/* edi = page, ebp = version, edx = kind */
write_filler:
    pushl %edi
    pushl %edx
    addl $16, %edi
    call *fillers(, %edx, 4)
    popl %edx
    popl %edi
    ret
fillers:
    .long fill_zero, fill_byte, fill_text, fill_new_text, fill_new_random, fill_random, fill_copy

fill_zero:
    xorl %eax, %eax
    jmp fill_word
fill_byte:
    leal (%esi, %ebp), %eax
    andl $0xff, %eax
    imull $0x01010101, %eax, %eax
fill_word:
    movl $FILLER_WORDS, %ecx
    rep stosl
    ret

fill_copy:
    movl $1, %eax
    jmp text
fill_text:
    movl $1000000, %ebx
    call always_same
    jmp text
fill_new_text:
    movl $2000000, %ebx
    call new_with_version
text:
    call start_random
    movl $FILLER_WORDS, %ecx
1:  NEXT_RANDOM
    movl %eax, %ebx
    shrl $28, %ebx
    movl text_words(, %ebx, 4), %ebx
    movl %ebx, (%edi)
    addl $4, %edi
    decl %ecx
    jnz 1b
    ret

fill_random:
    movl $3000000, %ebx
    call always_same
    jmp random
fill_new_random:
    movl $4000000, %ebx
    call new_with_version
random:
    call start_random
    movl $FILLER_WORDS, %ecx
1:  NEXT_RANDOM
    movl %eax, (%edi)
    addl $4, %edi
    decl %ecx
    jnz 1b
    ret

/* ebx = base -> eax = base + one of `seeds` numbers */
new_with_version:
    movl %esi, %eax
    shrl $3, %eax
    imull $65521, %eax, %eax            /* no page has what another has in some other version, unless seeds is small */
    addl %ebp, %eax
    jmp 1f
always_same:
    movl %esi, %eax
    shrl $3, %eax
1:  xorl %edx, %edx
    divl seeds
    leal (%edx, %ebx), %eax
    ret

/* eax = seed -> eax = state of xorshift32, which must not be 0 */
start_random:
    imull $0x9e3779b1, %eax, %eax
    orl $1, %eax
    ret

/* ---- command line -------------------------------------------------------------------------------- */

/* esi = text, or 0 */
read_command_line:
    testl %esi, %esi
    jz settings_done
next_option:
    movl $options, %ebx                 /* name, address of its number */
try_option:
    movl 0(%ebx), %edi
    testl %edi, %edi
    jz skip_character
    movl %esi, %edx
1:  movb (%edi), %al
    testb %al, %al
    jz take_number
    cmpb %al, (%edx)
    jne 2f
    incl %edi
    incl %edx
    jmp 1b
2:  addl $8, %ebx
    jmp try_option
take_number:
    movl %edx, %esi
    xorl %eax, %eax
3:  movzbl (%esi), %ecx
    subl $'0', %ecx
    cmpl $9, %ecx
    ja 4f
    imull $10, %eax, %eax
    addl %ecx, %eax
    incl %esi
    jmp 3b
4:  movl 4(%ebx), %edi
    movl %eax, (%edi)
    jmp next_option
skip_character:
    cmpb $0, (%esi)
    je settings_done
    incl %esi
    jmp next_option
settings_done:
    shll $10, gap
    movl tick, %eax
    movl %eax, until_tick
    cmpl $MAX_PAGES, pages
    jbe 5f
    movl $MAX_PAGES, pages
5:  ret

/* ---- COM1 ---------------------------------------------------------------------------------------- */

start_serial:
    movl $serial_settings, %esi
1:  movb (%esi), %dl
    movb 1(%esi), %al
    addl $2, %esi
    cmpb $0xff, %dl
    je 2f
    movzbl %dl, %edx
    addl $COM1, %edx
    outb %al, %dx
    jmp 1b
2:  ret
/* register, value: no interrupts; divisor 1, 8N1; FIFO on */
serial_settings:
    .byte 1, 0, 3, 0x80, 0, 1, 1, 0, 3, 3, 2, 7, 0xff, 0xff

print_tick:
    pushl %esi
    incl ticks
    movl $text_tick, %esi
    call print
    movl ticks, %eax
    call print_number
    movl $text_pages, %esi
    call print
    movl pages, %eax
    call print_number
    movl $text_has_bad, %esi
    call print
    movl bad, %eax
    call print_number
    call end_line
    popl %esi
    ret

/* eax = number; spoils all but esi */
print_number:
    movl $number_end, %edi
    movl $10, %ebx
1:  xorl %edx, %edx
    divl %ebx
    addb $'0', %dl
    decl %edi
    movb %dl, (%edi)
    testl %eax, %eax
    jnz 1b
    pushl %esi
    movl %edi, %esi
    call print
    popl %esi
    ret

end_line:
    pushl %esi
    movl $text_end, %esi
    call print
    popl %esi
    ret

/* esi = text with a closing 0 */
print:
    movb (%esi), %cl
    testb %cl, %cl
    jz 2f
    incl %esi
1:  movl $COM1 + 5, %edx
    inb %dx, %al
    testb $0x20, %al                    /* room in the transmitter */
    jz 1b
    movl $COM1, %edx
    movb %cl, %al
    outb %al, %dx
    jmp print
2:  ret

text_ready:   .asciz "counter ready pages "
text_tick:    .asciz "tick "
text_pages:   .asciz " pages "
text_has_bad: .asciz " bad "
text_bad:     .asciz "BAD index "
text_version: .asciz " version "
text_end:     .asciz "\n"
text_words:   .ascii "the ", "sea ", "and ", "a   ", "ship", " is ", "to  ", "lift"
              .ascii "line", " on ", "ing ", "wind", "from", "port", "it. ", "\nbut"

name_pages:   .asciz "pages="
name_hot:     .asciz "hot="
name_gap:     .asciz "gap="
name_tick:    .asciz "tick="
name_seeds:   .asciz "seeds="
    .balign 4
options:
    .long name_pages, pages, name_hot, hot, name_gap, gap, name_tick, tick, name_seeds, seeds, 0, 0

    .data
    .balign 4
pages:        .long 256
hot:          .long 0xffffffff
gap:          .long 1500
tick:         .long 64
seeds:        .long 4
ticks:        .long 0
bad:          .long 0
until_tick:   .long 0
last_turn:    .long 0
number:       .space 11
number_end:   .byte 0

    .bss
    .balign 4096
stack:        .space 4096
stack_end:
versions:     .space MAX_PAGES * 4
