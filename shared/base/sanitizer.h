/* HAS_SANITIZER: 1 in a build with ASan or TSan, which handle faults, threads and processes by
 * themselves. */
#ifndef COFFER_BASE_SANITIZER_H
#define COFFER_BASE_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER 0
#endif

#endif
