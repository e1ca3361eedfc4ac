/*
 * A Vulkan driver that wraps lavapipe and claims to be a GPU that shares memory with other processes.
 *
 * lavapipe computes in float16, but Chromium accepts no software driver except its own SwiftShader, which does not, and
 * only GPUs whose images and semaphores other processes can import. So this driver changes the device type and, for
 * Dawn, Chromium's WebGPU, lists two extensions that lavapipe lacks. Compute shaders use neither. Other parts of Chromium,
 * which would use them, see the true list.
 *
 *     cc -shared -fPIC -DDRIVER='"/absolute/libvulkan_lvp.so"' lavapipe_gpu.c -o liblavapipe_gpu.so
 *
 * The loader's interface: https://github.com/KhronosGroup/Vulkan-Loader/blob/main/docs/LoaderDriverInterface.md
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The definitions of Vulkan 1.4 that are used here. */
enum { SUCCESS = 0, INCOMPLETE = 5, UNSUPPORTED = -7, INTEGRATED_GPU = 1, EXPORTABLE_AND_IMPORTABLE = 3 };
typedef struct { char name[256]; uint32_t version; } Extension;
typedef struct { uint32_t api, driver, vendor, device, type; } Properties;
typedef struct { uint32_t type; void *next; Properties properties; } Properties2;
typedef struct { uint32_t type; const void *next; const char *application; uint32_t version; const char *engine; } Application;
typedef struct { uint32_t type; const void *next; uint32_t flags; const Application *application; } InstanceInfo;
typedef struct {
  uint32_t type; const void *next; uint32_t flags, queue_count; const void *queues; uint32_t layer_count;
  const char *const *layers; uint32_t extension_count; const char *const *extensions; const void *features;
} DeviceInfo;
typedef struct { uint32_t type; const void *next; uint32_t handle; } SemaphoreInfo;
typedef struct { uint32_t type; void *next; uint32_t from_imported, compatible, features; } SemaphoreProperties;
typedef void (*Function)(void);
typedef Function (*Lookup)(void *, const char *);

static const char *const ADDED[] = {"VK_EXT_image_drm_format_modifier", "VK_KHR_external_semaphore_fd"};
enum { ADDED_COUNT = sizeof ADDED / sizeof *ADDED, MOST = 64 };

/* What belongs to Dawn. */
static void *instances[MOST], *devices[MOST];
static unsigned instance_count, device_count;

static int contains(void *const *list, unsigned count, const void *item) {
  for (unsigned i = 0; i < count && i < MOST; i++)
    if (list[i] == item) return 1;
  return 0;
}

static int is_added(const char *extension) {
  for (unsigned i = 0; i < ADDED_COUNT; i++)
    if (!strcmp(ADDED[i], extension)) return 1;
  return 0;
}

static Function driver(const char *name) {
  static void *library;
  if (!library) library = dlopen(DRIVER, RTLD_NOW | RTLD_LOCAL);
  return library ? (Function)dlsym(library, name) : NULL;
}

static int (*create_instance)(const InstanceInfo *, const void *, void **);
static int our_create_instance(const InstanceInfo *info, const void *allocator, void **instance) {
  int result = create_instance(info, allocator, instance);
  const Application *application = info->application;
  int dawn = application && application->engine && !strcmp(application->engine, "Dawn");
  if (result == SUCCESS && dawn) instances[instance_count++ % MOST] = *instance;
  return result;
}

static int (*list_devices)(void *, uint32_t *, void **);
static int our_list_devices(void *instance, uint32_t *count, void **list) {
  int result = list_devices(instance, count, list);
  if (list && contains(instances, instance_count, instance))
    for (unsigned i = 0; i < *count; i++) devices[device_count++ % MOST] = list[i];
  return result;
}

static void (*properties)(void *, Properties *);
static void our_properties(void *device, Properties *found) {
  properties(device, found);
  found->type = INTEGRATED_GPU;
}

static void (*properties2)(void *, Properties2 *);
static void our_properties2(void *device, Properties2 *found) {
  properties2(device, found);
  found->properties.type = INTEGRATED_GPU;
}

static int (*extensions)(void *, const char *, uint32_t *, Extension *);
static int our_extensions(void *device, const char *layer, uint32_t *count, Extension *list) {
  if (layer || !contains(devices, device_count, device)) return extensions(device, layer, count, list);
  uint32_t room = list ? *count : 0;
  int result = extensions(device, layer, count, list);
  if (!list) *count += ADDED_COUNT;
  for (unsigned i = 0; list && result == SUCCESS && i < ADDED_COUNT; i++) {
    if (*count == room) return INCOMPLETE;
    Extension added = {.version = 1};
    strcpy(added.name, ADDED[i]);
    list[(*count)++] = added;
  }
  return result;
}

static void (*semaphores)(void *, const SemaphoreInfo *, SemaphoreProperties *);
static void our_semaphores(void *device, const SemaphoreInfo *info, SemaphoreProperties *found) {
  semaphores(device, info, found);
  if (!contains(devices, device_count, device)) return;
  found->from_imported = found->compatible = info->handle;
  found->features = EXPORTABLE_AND_IMPORTABLE;
}

static int (*create_device)(void *, const DeviceInfo *, const void *, void **);
static int our_create_device(void *physical, const DeviceInfo *info, const void *allocator, void **device) {
  DeviceInfo real = *info;
  const char **kept = malloc((info->extension_count + 1) * sizeof *kept);
  real.extension_count = 0;
  for (unsigned i = 0; i < info->extension_count; i++)
    if (!is_added(info->extensions[i])) kept[real.extension_count++] = info->extensions[i];
  real.extensions = kept;
  int result = create_device(physical, &real, allocator, device);
  free(kept);
  return result;
}

static int refuse(void) { return UNSUPPORTED; }

static Lookup device_function;
static Function our_device_function(void *device, const char *name) {
  Function found = device_function(device, name);
  int added = !strcmp(name, "vkGetSemaphoreFdKHR") || !strcmp(name, "vkImportSemaphoreFdKHR");
  return found || !added ? found : (Function)refuse;
}

#define OURS(vulkan, kept, replacement) \
  if (!strcmp(name, vulkan)) return kept = (void *)found, (Function)replacement

static Function ours(const char *name, Function found) {
  if (!found) return NULL;
  OURS("vkCreateInstance", create_instance, our_create_instance);
  OURS("vkEnumeratePhysicalDevices", list_devices, our_list_devices);
  OURS("vkGetPhysicalDeviceProperties", properties, our_properties);
  OURS("vkGetPhysicalDeviceProperties2", properties2, our_properties2);
  OURS("vkGetPhysicalDeviceProperties2KHR", properties2, our_properties2);
  OURS("vkEnumerateDeviceExtensionProperties", extensions, our_extensions);
  OURS("vkGetPhysicalDeviceExternalSemaphoreProperties", semaphores, our_semaphores);
  OURS("vkGetPhysicalDeviceExternalSemaphorePropertiesKHR", semaphores, our_semaphores);
  OURS("vkCreateDevice", create_device, our_create_device);
  OURS("vkGetDeviceProcAddr", device_function, our_device_function);
  return found;
}

Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
  Lookup lookup = (Lookup)driver("vk_icdGetInstanceProcAddr");
  return lookup ? ours(name, lookup(instance, name)) : NULL;
}

Function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
  Lookup lookup = (Lookup)driver("vk_icdGetPhysicalDeviceProcAddr");
  return lookup ? ours(name, lookup(instance, name)) : NULL;
}

int vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
  int (*negotiate)(uint32_t *) = (void *)driver("vk_icdNegotiateLoaderICDInterfaceVersion");
  return negotiate ? negotiate(version) : -9; /* VK_ERROR_INCOMPATIBLE_DRIVER */
}
